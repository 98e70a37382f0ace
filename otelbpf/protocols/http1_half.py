"""One side of an HTTP/1 conversation: where its bytes stand and what they are in the middle of."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from otelbpf.protocols.base import Message, ProtocolError, Side
from otelbpf.protocols.http1_body import Body
from otelbpf.protocols.http1_drift import Drift

Step = Callable[[Any, "Half", bytes, int, list[Message]], int]
"""A method of the conversation, unbound (so that nothing here points back at it): takes bytes of a side from an index
on, adds messages to the list, returns the index it came to."""

_EMPTY_LINES: Final = re.compile(rb"(?:\r?\n)++")  # possessive: no memory to go back


class Half:
    """Mutable, and changed by the conversation alone."""

    __slots__ = (
        "after",
        "announced",
        "begin",
        "body",
        "drift",
        "message",
        "overflow",
        "pending",
        "position",
        "reads",
        "searched",
        "side",
        "step",
    )

    def __init__(self, side: Side, position: int, step: Step) -> None:
        self.side = side
        self.position = position
        """Stream offset of the first of the bytes that are taken now, or will be next."""
        self.step = step
        self.after = step
        """The step behind the current message."""
        self.message: Message | None = None
        """Announced, not ended."""
        self.announced: list[Message] | None = None
        """The list that announced it: within one call a message is announced once."""
        self.body: Body | None = None
        self.drift: Drift | None = None
        self.reads = False
        """A message was one of gRPC-Web."""
        self.pending: bytes | bytearray = b""
        """The beginning of a head, or what is held behind a CONNECT; see `keep`."""
        self.begin = 0
        """Stream offset of the pending head."""
        self.searched = 0
        """Up to where it is known to hold no empty line."""
        self.overflow = False
        """Not everything that should be held is."""

    def keep(self, data: bytes) -> None:
        """Add to what is pending. Only then it takes memory: of thousands of connections nearly all have nothing
        pending, and what there is of each has to be fetched for every request."""
        if isinstance(self.pending, bytearray):
            self.pending += data
        else:
            self.pending = bytearray(data)

    def announce(self, message: Message, out: list[Message]) -> None:
        """A message has begun."""
        self.message = message
        self.announced = out
        out.append(message)

    def forget(self) -> None:
        """There is no message any more."""
        self.message = self.announced = self.body = self.drift = None

    def __repr__(self) -> str:
        return f"{self.side.name.lower()}={self.step.__name__.strip('_')}@{self.position}"


def pass_empty_lines(half: Half, data: bytes, at: int) -> int:
    """RFC 9112 section 2.2: a server passes over empty lines before a request. Nothing else may begin so."""
    if half.side is Side.CLIENT:
        if match := _EMPTY_LINES.match(data, at):
            return match.end()
        if data[at:] == b"\r":
            half.keep(b"\r")
            half.begin = half.position + at
            return len(data)
    raise ProtocolError(f"a head begins with {data[at : at + 1]!r}")
