"""Heads of HTTP/1 messages: bytes in, the few headers a span can use and the framing out.

The usual head is recognised here, by what was seen before: clients send the same header lines again and again, and
servers change little but Date. Anything else goes to h11, so there is one opinion of what a head means; a test over
mutated heads holds the two equal.
"""

from __future__ import annotations

import functools
import re
from typing import Final, TypeVar

from otelbpf.protocols.detect import KNOWN_METHODS
from otelbpf.protocols.http1_judge import Fields, judge_request, judge_response, judge_trailers
from otelbpf.protocols.text import text

WANTED: Final = frozenset(
    {
        "connection",
        "content-type",
        "forwarded",
        "traceparent",
        "tracestate",
        "upgrade",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
    }
)
"""Lower-case names of the headers that are kept for spans, beside those that the protocol itself needs (`NEEDED`)."""

OWN: Final = frozenset({"content-length", "host", "transfer-encoding"})
"""Headers that a message may not have two of; h11 merges equal Content-Lengths and refuses the rest."""

NEEDED: Final = OWN | {"expect"}
"""Headers that the framing follows from."""

CHUNKED: Final = -2
UNFRAMED: Final = -1

RequestHead = tuple[str, str, str, dict[str, str], int, int]
"""Method, target, version, headers; length of the body by its headers, or CHUNKED or UNFRAMED; size of the head."""
ResponseHead = tuple[int, str, dict[str, str], int, int]
"""Status, version, headers; length of the body by its headers, or CHUNKED or UNFRAMED; size of the head."""

_T = TypeVar("_T")
_Field = tuple[str, str] | tuple[()]  # empty: a valid line that is not wanted
_Block = tuple[dict[str, str], int]

_UNIQUE: Final = frozenset({"traceparent", "tracestate"})
_METHODS: Final = frozenset(str(method, "ascii") for method in KNOWN_METHODS)
_VERSIONS: Final = {"HTTP/1.1": "1.1", "HTTP/1.0": "1.0"}
_LONGEST_LINE: Final = 256
_LONGEST_BLOCK: Final = 2048

# RFC 9112 section 5 with h11's amendment: control characters other than NUL and white space pass in a value.
# Possessive throughout, so that refusing takes linear time.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+"
    rb"([\x01-\x08\x0e-\x1f\x21-\xff]*+(?:[ \t]++[\x01-\x08\x0e-\x1f\x21-\xff]++)*+)[ \t]*+"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: [^\x00\n\r\x0b\x0c]*+)?")


class _UnusualError(Exception):
    """A head that is h11's to judge."""


class Heads:
    """Reads heads; one object serves many connections, so that what one taught helps the next.

    The headers it returns may be the same dict for several messages: read them, do not change them.
    """

    __slots__ = ("_blocks", "_lines", "_names", "_once", "_remembered", "_responses", "_starts", "_wanted")

    def __init__(self, wanted: frozenset[str] = WANTED, *, remembered: int = 1024) -> None:
        """`wanted`: lower-case names of the headers to keep beside `NEEDED`. `remembered`: how many header lines,
        names and status lines, and a quarter as many header blocks and response heads, are kept until all are
        forgotten."""
        self._wanted = wanted | NEEDED
        self._remembered = remembered
        self._names: dict[bytes, str] = {}  # as spelled, to lower case; empty: not wanted
        self._lines: dict[bytes, _Field] = {}
        self._starts: dict[bytes, tuple[int, str]] = {}
        self._blocks: dict[bytes, _Block] = {}  # the part of a request head behind its first line
        self._responses: dict[bytes, ResponseHead] = {}
        self._once: set[int] = set()  # hashes of blocks and response heads that were seen

    def request(self, head: bytes) -> RequestHead:
        """`head` begins with a request line and ends with an empty one. ProtocolError: it is none."""
        line_end = head.find(b"\r\n")
        try:
            method, target, version = str(head[:line_end], "ascii").split(" ")
            # Of ASCII, printable are space to tilde; a space would have split.
            if target == "" or not target.isprintable() or (method not in _METHODS and not _TOKEN.fullmatch(method)):
                raise _UnusualError
            version = _VERSIONS[version]
            block = head[line_end:]
            known = self._blocks.get(block)
            if known is None:
                known = self._block(block)
                if self._comes_again(block):
                    _remember(self._blocks, block, known, self._remembered // 4)
        except (_UnusualError, ValueError, KeyError):
            raw_method, raw_target, raw_version, fields, size = judge_request(head)
            headers, length = self._kept(fields)
            return text(raw_method), text(raw_target), text(raw_version), headers, length, size
        return method, target, version, known[0], known[1], len(head)

    def response(self, head: bytes) -> ResponseHead:
        """`head` begins with a status line and ends with an empty one. ProtocolError: it is none."""
        known = self._responses.get(head)
        if known is not None:
            return known
        line_end = head.find(b"\r\n")
        try:
            status, version = self._starts.get(head[:line_end]) or self._start(head[:line_end])
            headers, length = self._block(head[line_end:])
        except _UnusualError:
            status, raw_version, fields, size = judge_response(head)
            headers, length = self._kept(fields)
            return status, text(raw_version), headers, length, size
        known = status, version, headers, length, len(head)
        if self._comes_again(head):
            _remember(self._responses, head, known, self._remembered // 4)
        return known

    def trailers(self, block: bytes) -> None:
        """`block` is the trailer section with the empty line that ends it. ProtocolError: it is none."""
        try:
            self._block(b"\r\n" + block)
        except _UnusualError:
            judge_trailers(block)

    def _comes_again(self, block: bytes) -> bool:
        """Whether it was seen before and is worth remembering: many blocks, with a trace id in them, come only once."""
        if len(block) > _LONGEST_BLOCK:
            return False
        once = self._once
        number = hash(block)
        if number in once:
            return True
        if len(once) >= self._remembered:
            once.clear()
        once.add(number)
        return False

    def _start(self, line: bytes) -> tuple[int, str]:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise _UnusualError
        start = int(match[2]), str(match[1], "ascii")
        if len(line) <= _LONGEST_LINE:
            _remember(self._starts, line, start, self._remembered)
        return start

    def _block(self, block: bytes) -> _Block:
        """`block` begins with the line break before the first header and ends with an empty line."""
        if block == b"\r\n\r\n":
            return {}, UNFRAMED
        if not block.endswith(b"\r\n\r\n"):
            raise _UnusualError
        headers: dict[str, str] = {}
        lines = self._lines
        for line in block[2:-4].split(b"\r\n"):
            field = lines.get(line)
            if field is None:
                field = self._line(line)
            if field:
                name, value = field
                if name not in headers:
                    headers[name] = value
                elif name in OWN:
                    raise _UnusualError
                else:
                    headers[name] += ", " + value
        return headers, _length(headers)

    def _line(self, line: bytes) -> _Field:
        match = _LINE.fullmatch(line)
        if match is None:
            raise _UnusualError
        raw_name, value = match.groups()
        name = self._names.get(raw_name)
        if name is None:
            name = self._name(raw_name)
        field: _Field = ()
        if name:
            if name == "content-length":
                if not value.isdigit() or len(value) > 20:
                    raise _UnusualError
            elif name == "transfer-encoding":
                value = value.lower()
                if value != b"chunked":
                    raise _UnusualError
            field = name, text(value)
            if name in _UNIQUE:
                return field
        if len(line) <= _LONGEST_LINE:
            _remember(self._lines, line, field, self._remembered)
        return field

    def _name(self, raw_name: bytes) -> str:
        name = str(raw_name, "ascii").lower()
        if name not in self._wanted:
            name = ""
        if len(raw_name) <= _LONGEST_LINE:
            _remember(self._names, raw_name, name, self._remembered)
        return name

    def _kept(self, fields: Fields) -> tuple[dict[str, str], int]:
        headers: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name = str(raw_name, "ascii")
            if name in self._wanted:
                value = text(raw_value)
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers, _length(headers)


def _remember(memory: dict[bytes, _T], key: bytes, value: _T, limit: int) -> None:
    if len(memory) >= limit:
        memory.clear()
    memory[key] = value


@functools.lru_cache(maxsize=8)
def shared_heads(wanted: frozenset[str]) -> Heads:
    """The reader that all connections with the same wish share."""
    return Heads(wanted)


def _length(headers: dict[str, str]) -> int:
    """RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length, and frames where chunked is the last coding."""
    if "transfer-encoding" in headers:
        return CHUNKED if headers["transfer-encoding"].lower() == "chunked" else UNFRAMED
    if "content-length" in headers:
        return int(headers["content-length"])
    return UNFRAMED


def whole_lines(begun: bytes) -> bytes:
    """A head that was cut behind its first line or later, as a head of the lines that are known whole.

    The last line counts only if what follows is known to be no continuation of it (obs-fold, RFC 9112 section 5.2).
    """
    *lines, rest = begun.split(b"\n")
    if rest[:1] in (b"", b" ", b"\t"):
        while len(lines) > 1 and lines.pop()[:1] in (b" ", b"\t"):
            continue
    return b"\n".join([*lines, b"\r\n"])
