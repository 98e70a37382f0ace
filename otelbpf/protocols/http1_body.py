"""Bodies of HTTP/1 messages: counted, never kept. Three framings (RFC 9112 section 6.3), one interface.

A body takes bytes from where it stands and says how many it took; it knows when it is done. A gap is taken by count
where the framing survives it. What the content says is of no interest but in gRPC-Web.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from otelbpf.protocols.base import Message, ProtocolError
from otelbpf.protocols.grpc import Parts
from otelbpf.protocols.http1_head import UNFRAMED, Heads
from otelbpf.protocols.http1_judge import BLANK_LINE

# RFC 9112 section 7.1 as h11 reads it: the size is bounded, an extension is anything, blanks may trail. What `;` begins
# may hold a CR but no LF.
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,20}+)(?:;[^\n]*+|[ \t]*+)")


class Body(Protocol):
    """What follows a head."""

    size: int
    """Bytes of content so far, framing not counted."""
    done: bool
    content: Parts | None
    """What reads the content, where anything does."""

    def feed(self, data: bytes, at: int) -> int:
        """Take bytes of `data` from index `at`; return the index behind the last one. ProtocolError: bad framing."""
        ...

    def lose(self, size: int) -> int:
        """Take `size` unseen bytes; return how many lie behind the body's end, or -1: the framing is lost."""
        ...


class Sized:
    """As long as Content-Length says."""

    __slots__ = ("content", "done", "left", "size")

    def __init__(self, length: int, content: Parts | None = None) -> None:
        self.size = 0
        self.done = False
        self.content = content
        self.left = length

    def feed(self, data: bytes, at: int) -> int:
        """See `Body`."""
        taken = len(data) - at
        if taken >= self.left:
            taken = self.left
            self.done = True
        self.left -= taken
        self.size += taken
        if self.content is not None:
            self.content.feed(data, at, at + taken)
        return at + taken

    def lose(self, size: int) -> int:
        """See `Body`."""
        taken = min(size, self.left)
        self.left -= taken
        self.size += taken
        if self.content is not None:
            self.content.skip(taken)
        self.done = not self.left
        return size - taken


class UntilClose:
    """A response that neither a length nor chunks frame: it ends with the connection."""

    __slots__ = ("content", "done", "size")

    def __init__(self, content: Parts | None = None) -> None:
        self.size = 0
        self.done = False
        self.content = content

    def feed(self, data: bytes, at: int) -> int:
        """See `Body`."""
        self.size += len(data) - at
        if self.content is not None:
            self.content.feed(data, at, len(data))
        return len(data)

    def lose(self, size: int) -> int:
        """See `Body`."""
        self.size += size
        if self.content is not None:
            self.content.skip(size)
        return 0


class Chunked:
    """Chunks, the last of size 0, and trailers."""

    __slots__ = ("_break", "_heads", "_left", "_limit", "_line", "_searched", "_trailers", "content", "done", "size")

    def __init__(self, heads: Heads, limit: int, content: Parts | None = None) -> None:
        """`limit` bounds the line before a chunk and the trailers, which are kept until they are complete."""
        self.size = 0
        self.done = False
        self.content = content
        self._heads = heads
        self._limit = limit
        self._left = 0  # bytes of the current chunk
        self._break = b""  # what is still missing of the CRLF behind it
        self._line = bytearray()  # the beginning of a line, or of the trailers, whose end is not there yet
        self._searched = 0
        self._trailers = False

    def feed(self, data: bytes, at: int) -> int:
        """See `Body`."""
        end = len(data)
        while at < end and not self.done:
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                self.size += taken
                if self.content is not None:
                    self.content.feed(data, at, at + taken)
                at += taken
            elif self._break:
                taken = min(len(self._break), end - at)
                if not self._break.startswith(data[at : at + taken]):
                    raise ProtocolError("a chunk does not end where it should")
                self._break = self._break[taken:]
                at += taken
            elif self._trailers:
                at = self._take_trailers(data, at)
            else:
                at = self._take_line(data, at)
        return at

    def lose(self, size: int) -> int:
        """See `Body`. Within a chunk, its closing CRLF included, nothing is lost that was not known."""
        if size > self._left + len(self._break):
            return -1
        taken = min(size, self._left)
        self._left -= taken
        self.size += taken
        if self.content is not None:
            self.content.skip(taken)
        self._break = self._break[size - taken :]
        return 0

    def _take_line(self, data: bytes, at: int) -> int:
        line = self._line
        if not line:
            # The usual case: the line is whole.
            behind = data.find(b"\r\n", at, at + self._limit) + 2
            if behind > 1:
                self._begin_chunk(data[at : behind - 2])
                return behind
        held = len(line)
        line += data[at : at + self._limit - held]
        found = line.find(b"\r\n", max(held - 1, 0))
        if found < 0:
            if len(line) >= self._limit:
                raise ProtocolError("the line before a chunk is too long")
            return len(data)
        self._begin_chunk(bytes(line[:found]))
        line.clear()
        return at + found + 2 - held

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(f"not a chunk: {line[:32]!r}")
        self._left = int(match[1], 16)
        if self._left:
            self._break = b"\r\n"
        else:
            self._trailers = True

    def _take_trailers(self, data: bytes, at: int) -> int:
        kept = self._line
        if not kept and data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        held = len(kept)
        kept += data[at : at + self._limit - held]
        behind = _section_end(kept, self._searched)
        if behind < 0:
            if len(kept) >= self._limit:
                raise ProtocolError("trailers are too long")
            self._searched = max(len(kept) - 2, 0)
            return len(data)
        if behind > 2:
            self._heads.trailers(bytes(kept[:behind]))
        kept.clear()
        self.done = True
        return at + behind - held


def _section_end(lines: bytearray, searched: int) -> int:
    """Index behind the empty line that ends `lines`, which may be the first; -1 where it is not there yet."""
    if lines.startswith(b"\n"):
        return 1
    if lines.startswith(b"\r\n"):
        return 2
    match = BLANK_LINE.search(lines, searched)
    return match.end() if match else -1


def switches(response: Message) -> bool:
    """After this response the connection speaks another protocol (RFC 9110 sections 15.2.2 and 9.3.6)."""
    status = response.status
    return status == 101 or (response.method == "CONNECT" and 200 <= status < 300)


def without_body(method: str, status: int, length: int) -> int:
    """The length of a response's body, which its headers alone do not tell."""
    if method == "HEAD" or status == 204 or status == 304 or (status == 205 and length == UNFRAMED):
        return 0
    return length
