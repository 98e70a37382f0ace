"""h11 and the parser have one opinion of every head: what it is, what its headers say and where the body ends.

The exceptions are written out in `h11_reads`; `EXCEPTIONS` shows each of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelbpf.protocols.base import Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import kept, patient, text

HUGE = 10_000_000
_FRAMING = {"content-length", "transfer-encoding"}


class Reading(NamedTuple):
    """The first message of some bytes. No first line: more bytes are needed."""

    first_line: tuple[str, str, str] | tuple[int, str] | None = None
    headers: dict[str, str] | None = None
    end: int = -1
    body_size: int = -1
    refused: bool = False


def h11_reads(side: Side, data: bytes, method: str = "GET") -> Reading:
    """What h11 makes of `data`, but for the exceptions."""
    if side is Side.SERVER:
        connection = h11.Connection(h11.CLIENT, HUGE)
        asked = [("Host", "h"), ("Upgrade", "u")]
        connection.send(h11.Request(method=method, target="h:1" if method == "CONNECT" else "/", headers=asked))
        connection.send(h11.EndOfMessage())
        # Exception: transfer codings without chunked end a response with the connection (RFC 9112 section 6.3).
        data, codings, framed = _without_codings(data)
        if codings and framed:
            return Reading(refused=True)
        reading = _read(connection, data)
        if not codings or reading.headers is None:
            return reading
        end = reading.end + sum(map(len, codings)) if reading.end >= 0 else -1
        values = [line.partition(b":")[2].strip().decode() for line in codings]
        return reading._replace(end=end, headers={**reading.headers, "transfer-encoding": ", ".join(values)})
    # Exception: empty lines before a request are passed over (RFC 9112 section 2.2).
    begin = re.match(rb"(?:\r?\n)*(?:\r\Z)?", data).end()  # type: ignore[union-attr]
    if begin == len(data):
        return Reading()
    line, newline, rest = data[begin:].partition(b"\n")
    words = line.split(b" ")
    target = None
    if newline and len(words) == 3 and b"\n" in rest:
        # Exception: the target may have bytes above 127.
        target = words[1]
        words[1] = re.sub(rb"[\x80-\xff]", b"~", target)
        # Exception: Host may be missing from HTTP/1.1.
        words[2] = re.sub(rb"\AHTTP/1\.1(\r?)\Z", rb"HTTP/1.0\1", words[2])
    asked_line = b" ".join(words)
    reading = _read(h11.Connection(h11.SERVER, HUGE), asked_line + newline + rest)
    if reading.first_line is None:
        return reading
    first_method, _, version = reading.first_line  # type: ignore[misc]
    # Exception: versions other than 1.x are refused.
    if not version.startswith("1."):
        return Reading(refused=True)
    assert target is not None
    version = line.rstrip(b"\r")[-3:].decode()
    end = reading.end + begin if reading.end >= 0 else -1
    return reading._replace(first_line=(first_method, text(target), version), end=end)


def _read(connection: h11.Connection, data: bytes) -> Reading:
    """Until the end of the first message but interim ones."""
    connection.receive_data(_of_last_coding(data))
    reading = Reading()
    size = 0
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                size += len(event.data)
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                # PAUSED: 101, or a tunnel: the head is the message.
                return reading._replace(end=len(data) - len(connection.trailing_data[0]), body_size=size)
            elif event is h11.NEED_DATA:
                return reading
            else:
                reading = _head(event)
                if reading.refused:
                    return reading
                if (
                    reading.first_line is not None
                    and reading.first_line[0] == 205
                    and not _FRAMING & set(reading.headers or ())
                ):
                    # Exception: 205 has no body (RFC 9110 section 15.3.6).
                    return reading._replace(end=len(data) - len(connection.trailing_data[0]), body_size=0)
    except h11.RemoteProtocolError:
        return reading._replace(refused=True)


def _without_codings(data: bytes) -> tuple[bytes, list[bytes], bool]:
    """The bytes without those lines of the first head that name transfer codings, but not chunked; these lines; and
    whether another line tells of framing."""
    end = re.search(rb"\n\r?\n", data)
    if not end:
        return data, [], False
    kept_lines: list[bytes] = []
    codings: list[bytes] = []
    lines = re.findall(rb"[^\n]*\n", data[: end.end()])
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        name, _, value = line.removesuffix(b"\n").removesuffix(b"\r").partition(b":")
        words = [word.strip(b" \t").lower() for word in value.split(b",")]
        tokens = all(re.fullmatch(rb"[0-9a-z-]+", word) and not re.match(rb"chunked\b", word) for word in words)
        named = name.lower() == b"transfer-encoding" and tokens and following[:1] not in (b" ", b"\t")
        (codings if named else kept_lines).append(line)
    framed = any(line.partition(b":")[0].lower().decode("latin-1") in _FRAMING for line in kept_lines)
    return b"".join(kept_lines) + data[end.end() :], codings, framed


def _of_last_coding(data: bytes) -> bytes:
    """Exception: other transfer codings may stand before the chunked one. In the first head only."""
    end = re.search(rb"\n\r?\n", data)
    head, rest = (data[: end.end()], data[end.end() :]) if end else (data, b"")
    lines = head.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        name, _, value = line.partition(b":")
        *others, last = [word.strip(b" \t").lower() for word in value.removesuffix(b"\r").split(b",")]
        tokens = all(re.fullmatch(rb"[0-9a-z-]+", word) and word != b"chunked" for word in others)
        if name.lower() == b"transfer-encoding" and last == b"chunked" and others and tokens:
            lines[number] = b"%b: %b" % (name, value[value.lower().rindex(b"chunked") :])
    return b"\n".join(lines) + rest


def _head(event: object) -> Reading:
    if isinstance(event, h11.Request):
        words = (event.method.decode(), event.target.decode(), event.http_version.decode())
        return Reading(words, kept(event.headers))
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    version = event.http_version.decode()
    if not version.startswith("1."):
        # Exception: versions other than 1.x are refused.
        return Reading(refused=True)
    if event.status_code < 200 and event.status_code != 101:
        return Reading()
    return Reading((event.status_code, version), kept(event.headers))


def parser_reads(side: Side, data: bytes, method: str = "GET") -> Reading:
    """What the parser makes of `data`; only the first message counts."""
    parser = Http1()
    if side is Side.SERVER:
        question = b"%s h:1 HTTP/1.1\r\nHost: h\r\n\r\n" % method.encode()
        assert len(parser.receive(Side.CLIENT, question)) == 1
    refused = False
    try:
        found: list[Message] = list(parser.receive(side, data))
    except ProtocolError as error:
        found = list(error.messages)
        refused = True
    found = [message for message in found if message.side is side]
    if not found:
        return Reading(refused=refused)
    message = found[0]
    if message.incomplete is Incomplete.MALFORMED:
        refused = True
        if message.head_end == message.begin:
            return Reading(refused=True)
    assert message.method == method or side is Side.CLIENT
    words = (
        (message.method, message.target, message.version) if side is Side.CLIENT else (message.status, message.version)
    )
    if message.end >= 0:
        refused = False  # of what follows
    return Reading(words, message.headers, message.end, message.body_size, refused)


def _one_of(*alternatives: bytes) -> st.SearchStrategy[bytes]:
    """One of the words, which `|` separates."""
    return st.sampled_from(b"|".join(alternatives).split(b"|"))


methods = _one_of(b"GET|POST|CONNECT|M-SEARCH|!#$%&'*+-.^_`~|G(T|get|")
targets = _one_of(b"/|*|http://h/|h:443|/caf\xc3\xa9|/\xe9|/a b||/\x7f|/?a=%20&b#c")
versions = _one_of(b"HTTP/1.1|HTTP/1.1|HTTP/1.1|HTTP/1.1|HTTP/1.0|HTTP/1.2|HTTP/2.0|HTTP/0.9|http/1.1|HTTP/1.1 ")
statuses = _one_of(b"200|204|205|304|100|101|103|999|099|20|2000")
reasons = _one_of(b" OK|| | Not Found| f\xfcr\t\x01| a\x0bb|  x|\t")
names = _one_of(
    b"Host|host|Content-Length|content-length|Transfer-Encoding|Connection|Upgrade|User-Agent|traceparent|Accept|Expect",
    b"X-Forwarded-For|X_Y|A B||Host |\xe9|Trailer",
)
values = _one_of(
    b"deflate,gzip , chunked|chunked, chunked|gzip, chunked, gzip",
    b"h|h:80|5|0|5, 5|5,6|05|+5|-1|5 |99999999999999999999|999999999999999999999|\xb2|chunked|CHUNKED|gzip, chunked",
    b"identity|chunked |websocket|close|a, b|| \t |caf\xc3\xa9|\xe9t\xe9|a\x01b|a\x00b|a\x0bb|a\rb|a\x7fb|a   b\t",
)
blanks = _one_of(b" | ||\t|  ")
breaks = _one_of(b"\r\n|\r\n|\r\n|\r\n|\r\n|\r\n|\n|\r\n |\n\t|\r|\r\r\n")
lines = st.tuples(names, st.just(b":"), blanks, values, breaks).map(b"".join)
usual = _one_of(b"Host: h\r\n|Content-Length: 5\r\n|Transfer-Encoding: chunked\r\n|Upgrade: u\r\n")
headers = st.lists(lines | usual, max_size=5).map(b"".join)
ends = _one_of(b"\r\n|\r\n|\r\n|\r\n|\n||\r")
bodies = _one_of(
    b"|hello|hello world|5\r\nhello\r\n0\r\n\r\n|0\r\n\r\nGET|5;a=b \r\nhello\r\n0 \r\nA: b\r\n\r\nrest|5 ;a\r\n",
    b"5\nhello|5\r\nhelloXX|0\r\n\n|0\r\nA b\r\n\r\n|0\r\nContent-Length: x\r\n\r\n|G\r\n|0\r\nA: b\n\r\nx|000\r\n\r\n",
    b"FFFFFFFFFFFFFFFFFFFFF\r\n|;\r\n|1;\r\r\nx\r\n0;\nb\r\n\r\n|-1\r\n|0x5\r\n|0\r\nHost: a\r\nHost: b\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n|0\r\n a: b\r\n\r\n|0\r\n\rA: b\r\n\r\n",
)
changes = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.integers(0, 3),
        _one_of(b"|\r|\n|\r\n|\x00| |\t|:|,|\x80|5|a|\r\n\r\n|\x0c"),
    ),
    max_size=2,
)
empty_lines = _one_of(b"||||||\r\n|\n\r\n|\r|\r\r\n| ")


def _mutated(data: bytes, changed: list[tuple[int, int, bytes]]) -> bytes:
    for where, size, new in changed:
        data = data[:where] + new + data[where + size :]
    return data


requests = st.builds(
    lambda before, method, target, version, fields, end, body, changed: _mutated(
        before + method + b" " + target + b" " + version + b"\r\n" + fields + end + body, changed
    ),
    empty_lines, methods, targets, versions, headers, ends, bodies, changes,
)  # fmt: skip
responses = st.builds(
    lambda version, status, reason, fields, end, body, changed: _mutated(
        version + b" " + status + reason + b"\r\n" + fields + end + body, changed
    ),
    versions, statuses, reasons, headers, ends, bodies, changes,
)  # fmt: skip


@settings(patient, max_examples=600)
@given(requests)
@example(b"GET / HTTP/1.1\r\nHost: h\n\nX: y\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: abc\n\n")
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(b"POST / HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Length: 5\n\r\nhello")
@example(b"\r\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
def test_requests_mean_what_h11_says(data: bytes) -> None:
    """Method, target, version, every kept header, where it ends and the size of the body; refusals too."""
    assert parser_reads(Side.CLIENT, data) == h11_reads(Side.CLIENT, data)


@settings(patient, max_examples=600)
@given(responses, st.sampled_from(["GET", "HEAD", "CONNECT"]))
@example(b"HTTP/1.1 200 OK\n\nX: y\r\n\r\n", "GET")
@example(b"HTTP/1.1 101 S\r\nUpgrade: u\r\n\r\nrest", "GET")
@example(b"HTTP/1.1 205 R\r\n\r\nrest", "GET")
@example(b"HTTP/1.1 205 R\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET")
@example(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", "GET")
@example(b"HTTP/2.0 200 OK\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "HEAD")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n , chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhello", "GET")
def test_responses_mean_what_h11_says(data: bytes, method: str) -> None:
    """Status, version, every kept header, where it ends and the size of the body; refusals too."""
    ours, theirs = parser_reads(Side.SERVER, data, method), h11_reads(Side.SERVER, data, method)
    framing = _FRAMING & set(theirs.headers or {})
    if theirs.first_line is not None and theirs.end < 0 and not framing:
        # Until the close: h11 has taken what is there.
        assert ours.body_size == -1
    assert ours == theirs


EXCEPTIONS = {
    "empty lines before a request": b"\r\n\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "bytes above 127 in a target": b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
    "codings before chunked": b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip,x-a ,\tChunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_what_h11_refuses_and_servers_answer(name: str) -> None:
    """The whole list of what is accepted against h11's judgement."""
    data = EXCEPTIONS[name]
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()

    (message,) = Http1().receive(Side.CLIENT, data)
    assert (message.method, message.version, message.end, message.body_size) == ("GET", "1.1", len(data), 0)
    assert message.begin == data.index(b"GET")
    assert message.target == ("/café" if "127" in name else "/")


@pytest.mark.parametrize("data", [b"PRI * HTTP/2.0\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n"])
def test_what_h11_accepts_and_is_not_http1(data: bytes) -> None:
    """The whole list of what is refused against h11's judgement."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    assert isinstance(connection.next_event(), h11.Request)

    (message,) = Http1().receive(Side.CLIENT, data)
    assert (message.method, message.incomplete) == ("", Incomplete.MALFORMED)
