"""What every protocol promises: bytes in, messages out, no I/O, no clock.

A message is announced when its head is known and again when its end is: the same object twice, first with `end < 0`
(unless head and end came together: then once). So a response that begins before its request ends, and a
connection that breaks midway, need no special case.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Side(enum.IntEnum):
    """Whose bytes: those the client sent, or those the server sent."""

    CLIENT = 0
    SERVER = 1


class ProtocolError(Exception):
    """The bytes are not what this protocol allows, or a hole took the framing; the only error a parser may raise.

    `messages` are those the same call had found before it failed."""

    def __init__(self, why: str, messages: Sequence[Message] = ()) -> None:
        super().__init__(why)
        self.messages = messages


class Incomplete(enum.StrEnum):
    """What a message lacks; told on its span."""

    NONE = ""
    HEAD_BEYOND_LIMIT = "head_beyond_limit"
    """The head was longer than what is copied: headers may be missing, the framing is inferred."""
    BODY_SIZE_UNKNOWN = "body_size_unknown"
    """Bytes that carry the framing (chunk sizes) were not seen; the end was inferred from what followed."""
    CLOSED = "closed"
    """The connection ended within the message."""


class Message(msgspec.Struct, gc=False):
    """One request or response (interim 1xx responses are not announced), and where in its side's stream it lies."""

    side: Side
    begin: int
    """Stream offset of the first byte of the head."""
    head_end: int
    """Stream offset behind the head."""
    method: str = ""
    target: str = ""
    status: int = 0
    version: str = ""
    """network.protocol.version: 1.0, 1.1"""
    headers: dict[str, str] = {}
    """Lower-case name to value, of the headers a span can use; repeated ones joined by ', ' (RFC 9110 section 5.3)."""
    end: int = -1
    """Stream offset behind the last byte; -1 while it is not known."""
    body_size: int = -1
    """Bytes of the body as sent, framing not counted; -1 where it is not known."""
    incomplete: Incomplete = Incomplete.NONE
    upgrade: bool = False
    """A response after which the connection is opaque: 101, or 2xx to CONNECT."""
    unknown: frozenset[str] = frozenset()
    """HTTP/2: names of fields whose values cannot be known, because they stand in a part of the compression state that
    was not seen. The empty name stands for a field of which the name is not known either."""


class StreamMessage(Message, gc=False):
    """A message of HTTP/2, where many are under way at once and each has its stream (RFC 9113 section 5)."""

    stream: int = 0
    """The stream's identifier: a response answers the request of the same one."""
    trailers: dict[str, str] = {}
    """Fields behind the content, as `headers`."""
    reset: int = -1
    """Error code of the RST_STREAM that ended it (RFC 9113 section 7); -1 where none did."""
    parts: int = -1
    """gRPC: length-prefixed messages within the content; -1 where not every prefix was seen, or it is no gRPC."""


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Bytes that went over the wire but did not reach the parser."""

    size: int
    deliberate: bool
    """Not copied because they were beyond the budget, seen by count; otherwise lost."""
    tail: bytes = b""
    """The last bytes of the gap, where they were copied (deliberate ones only)."""


class Parser(Protocol):
    """One connection's conversation. Both sides feed the same object, because what a response means can depend
    on the request it answers (HEAD, CONNECT)."""

    def receive(self, side: Side, data: bytes) -> Sequence[Message]:
        """Take the next bytes of `side`; return the messages that began or ended."""
        ...

    def lose(self, side: Side, gap: Gap) -> Sequence[Message]:
        """Bytes of `side` that will never be seen: survive it, or raise ProtocolError."""
        ...

    def close(self, side: Side) -> Sequence[Message]:
        """`side` sends no more; a message still open ends here, marked CLOSED unless closing is its framing."""
        ...

    def needed_from(self, side: Side) -> int:
        """The lowest stream offset of `side` whose time may still be asked for."""
        ...
