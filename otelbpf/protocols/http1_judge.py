"""h11 as the judge of HTTP/1 heads: what it refuses is no message, what it accepts means what it says.

Four things it refuses are real exchanges, so they are put to it in a form it accepts:

- HTTP/1.1 without Host (health checks send it). RFC 9112 section 3.2 makes the server answer 400, and it does: h11
  is asked about the same head as HTTP/1.0, where Host is optional.
- bytes above 127 in the request target, which curl sends as they were typed and servers accept: h11 is asked with
  another byte in their place.
- transfer codings before chunked, which is what frames: h11 is asked about chunked alone.
- a response whose transfer codings have no chunked among them: it ends with the connection (RFC 9112 section 6.3), and
  h11 is asked without them. Not where a Content-Length stands beside: that should end it, for a part of the clients.

And one thing is refused that h11 accepts: a version other than 1.x, so that the preface of HTTP/2 is no request.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from otelbpf.protocols.base import ProtocolError

Fields = list[tuple[bytes, bytes]]

BLANK_LINE: Final = re.compile(rb"\n\r?\n")
"""Ends a head; a bare LF ends a line as well, as h11 has it (RFC 9112 section 2.2)."""

# h11 refuses these wherever they stand. They are refused before it sees them, because its expression for a header
# line takes quadratic time to refuse one that ends in many blanks and one of these.
_REFUSED: Final = re.compile(rb"[\x00\x0b\x0c]|\r(?!\n)")
_VERSION: Final = re.compile(rb"HTTP/1\.[0-9]\r?")
_FRAMING: Final = (b"content-length", b"transfer-encoding")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
# No possessive group: where it has something to go back on within, Python before 3.11.5 finds nothing.
_CODINGS: Final = re.compile(
    rb"^(transfer-encoding:[ \t]*+)(?:(?!chunked[ \t]*+,)[0-9a-z-]++[ \t]*+,[ \t]*+)+(?=chunked[ \t]*+\r?$)",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_CHUNKED: Final = re.compile(
    rb"^transfer-encoding:[ \t]*+((?:(?!chunked\b)[0-9a-z-]++[ \t]*+,[ \t]*+)*(?!chunked\b)[0-9a-z-]++)"
    rb"[ \t]*+\r?\n(?![ \t])",
    re.IGNORECASE | re.MULTILINE,
)
# Lets the answer be anything, 101 included.
_QUESTION: Final = h11.Request(method="GET", target="/", headers=[("Host", "h"), ("Upgrade", "u")])
_CHUNKED_HEAD: Final = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


def judge_request(head: bytes) -> tuple[bytes, bytes, bytes, Fields, int]:
    """Method, target, version, headers and size of the head that `head` begins with; it holds a blank line."""
    head = _first(head)
    line, newline, rest = head.partition(b"\n")
    words = line.split(b" ")
    if len(words) != 3 or not _VERSION.fullmatch(words[2]):
        raise ProtocolError(f"not a request line: {line[:64]!r}")
    method, target, version = words
    asked = b" ".join((method, _NOT_ASCII.sub(b"~", target), b"HTTP/1.0" + version[8:]))
    event = _ask(h11.Connection(h11.SERVER), asked + newline + rest)
    if not isinstance(event, h11.Request):
        raise ProtocolError("not a request")
    return method, target, version[5:8], list(event.headers), len(head)


def judge_response(head: bytes) -> tuple[int, bytes, Fields, int]:
    """Status, version, headers and size of the head that `head` begins with; it holds a blank line."""
    head = _first(head)
    connection = h11.Connection(h11.CLIENT)
    connection.send(_QUESTION)
    codings = [(b"transfer-encoding", value) for value in _NOT_CHUNKED.findall(head)]
    event = _ask(connection, _NOT_CHUNKED.sub(b"", head) if codings else head)
    if not isinstance(event, h11.Response | h11.InformationalResponse) or not event.http_version.startswith(b"1."):
        raise ProtocolError(f"not a response: {head[:64]!r}")
    if codings and any(name in _FRAMING for name, _ in event.headers):
        raise ProtocolError("a response that is framed in two ways")
    return event.status_code, event.http_version, [*event.headers, *codings], len(head)


def judge_trailers(block: bytes) -> None:
    """Refuse trailer lines that are none; `block` ends with a blank line."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(_CHUNKED_HEAD)
    connection.next_event()
    _ask(connection, block)


def _first(head: bytes) -> bytes:
    """Up to the first blank line: what was taken for a head because it ends in CRLF CRLF may go beyond its own end."""
    end = BLANK_LINE.search(head)
    return head[: end.end()] if end else head


def _ask(connection: h11.Connection, lines: bytes) -> object:
    if bad := _REFUSED.search(lines):
        raise ProtocolError(f"a control character in a head: {bad[0]!r}")
    connection.receive_data(_CODINGS.sub(rb"\1", lines))
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(str(error)) from None
