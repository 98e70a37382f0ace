"""What every protocol promises: bytes in, messages out, no I/O, no clock.

A message is announced when its head is known and again when its end is: the same object twice, first with `end < 0`
(unless head and end came together: then once). So a response that begins before its request ends, and a
connection that breaks midway, need no special case.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar, Final, Protocol

from otelbpf.values import Value


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
    MALFORMED = "malformed"
    """A request that is none by the rules, and answered all the same: where it ends is not known, nor what it is where
    it has no method."""


_NO_FIELDS: Final[dict[str, str]] = {}
_NOTHING: Final[frozenset[str]] = frozenset()


class Message(Value):
    """One request or response (interim 1xx responses are not announced), and where in its side's stream it lies."""

    __match_args__: ClassVar[tuple[str, ...]] = (
        "side",
        "begin",
        "head_end",
        "method",
        "target",
        "status",
        "version",
        "headers",
        "end",
        "body_size",
        "incomplete",
        "upgrade",
        "unknown",
        "trailers",
        "parts",
    )

    def __init__(
        self,
        side: Side,
        begin: int,
        head_end: int,
        method: str = "",
        target: str = "",
        status: int = 0,
        version: str = "",
        headers: dict[str, str] = _NO_FIELDS,
        end: int = -1,
        body_size: int = -1,
        incomplete: Incomplete = Incomplete.NONE,
        upgrade: bool = False,
        unknown: frozenset[str] = _NOTHING,
        trailers: dict[str, str] = _NO_FIELDS,
        parts: int = -1,
    ) -> None:
        self.side = side
        self.begin = begin
        """Stream offset of the first byte of the head."""
        self.head_end = head_end
        """Stream offset behind the head."""
        self.method = method
        self.target = target
        self.status = status
        self.version = version
        """network.protocol.version: 1.0, 1.1"""
        self.headers = headers
        """Lower-case name to value, of the headers a span can use; repeated ones joined by ', ' (RFC 9110 section
        5.3). Many messages share one, so nobody changes it."""
        self.end = end
        """Stream offset behind the last byte; -1 while it is not known."""
        self.body_size = body_size
        """Bytes of the body as sent, framing not counted; -1 where it is not known."""
        self.incomplete = incomplete
        self.upgrade = upgrade
        """A response after which the connection is opaque: 101, or 2xx to CONNECT."""
        self.unknown = unknown
        """HTTP/2: names of fields whose values cannot be known, because they stand in a part of the compression state
        that was not seen. The empty name stands for a field of which the name is not known either."""
        self.trailers = trailers
        """Fields behind the content, as `headers`: HTTP/2's, and those of gRPC-Web, which stand within it."""
        self.parts = parts
        """gRPC: length-prefixed messages within the content; -1 where not every prefix was seen, or it is no gRPC."""


class StreamMessage(Message):
    """A message of HTTP/2, where many are under way at once and each has its stream (RFC 9113 section 5)."""

    __match_args__: ClassVar[tuple[str, ...]] = (*Message.__match_args__, "stream", "reset")

    def __init__(
        self,
        side: Side,
        begin: int,
        head_end: int,
        method: str = "",
        target: str = "",
        status: int = 0,
        version: str = "",
        headers: dict[str, str] = _NO_FIELDS,
        end: int = -1,
        body_size: int = -1,
        incomplete: Incomplete = Incomplete.NONE,
        upgrade: bool = False,
        unknown: frozenset[str] = _NOTHING,
        stream: int = 0,
        trailers: dict[str, str] = _NO_FIELDS,
        reset: int = -1,
        parts: int = -1,
    ) -> None:
        super().__init__(
            side,
            begin,
            head_end,
            method,
            target,
            status,
            version,
            headers,
            end,
            body_size,
            incomplete,
            upgrade,
            unknown,
            trailers,
            parts,
        )
        self.stream = stream
        """The stream's identifier: a response answers the request of the same one."""
        self.reset = reset
        """Error code of the RST_STREAM that ended it (RFC 9113 section 7); -1 where none did."""


class Gap(Value):
    """Bytes that went over the wire but did not reach the parser."""

    __match_args__ = ("size", "deliberate", "tail", "encrypted")

    def __init__(self, size: int, deliberate: bool, tail: bytes = b"", encrypted: bool = False) -> None:
        self.size: Final = size
        self.deliberate: Final = deliberate
        """Not copied because they were beyond the budget, seen by count; otherwise lost."""
        self.tail: Final = tail
        """The last bytes of the gap, where they were copied (deliberate ones only)."""
        self.encrypted: Final = encrypted
        """The kernel encrypts them: no protocol that is known here will ever be seen."""


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
