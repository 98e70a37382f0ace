"""One side of an HTTP/2 conversation: where its bytes stand, what they are in the middle of, what is open on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelbpf.protocols.base import Message, Side, StreamMessage
from otelbpf.protocols.grpc import Parts
from otelbpf.protocols.hpack_decode import Decoder

Step = Callable[[Any, "Half", bytes, int, list[Message]], int]
"""A method of the conversation, unbound: takes bytes of a side from an index on, adds messages to the list, returns the
index it came to."""


class Open:
    """A message that was announced: what is not told of it yet."""

    __slots__ = ("answer_losses", "body_size", "call", "losses", "message", "parts")

    def __init__(self, message: StreamMessage, call: int, losses: int, answer_losses: int, parts: Parts | None) -> None:
        self.message = message
        self.call = call
        """The call that announced it last: within one call a message is announced once."""
        self.losses = losses
        """How often its side had lost its framing when it began: what was lost since may be its content."""
        self.answer_losses = answer_losses
        """Of a request: how often the server's side had lost it: what was lost since may be the answer."""
        self.parts = parts
        """Counts gRPC's messages."""
        self.body_size = 0
        """-1: padding was not seen."""


class Frame:
    """A frame that did not come in one piece."""

    __slots__ = ("flags", "kind", "left", "length", "padding", "payload", "stream")

    def __init__(self, kind: int, flags: int, stream: int, length: int) -> None:
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.length = length
        self.left = length
        """Bytes of the payload that are still to come."""
        self.payload = bytearray()
        """Its first bytes, of the types that mean something: all of them that were seen without a gap, and are kept."""
        self.padding = 0
        """DATA: bytes of the payload that are none of the content; -1 while that is not known."""

    def content(self, first: int, behind: int) -> tuple[int, int]:
        """What of the payload from index `first` up to `behind` is content."""
        if self.padding < 0:
            return behind, behind
        if self.padding:
            first = max(first, 1)
            behind = min(behind, self.length - self.padding + 1)
        return first, max(first, behind)


class Block:
    """A header block that goes on in CONTINUATION frames (RFC 9113 section 4.3)."""

    __slots__ = ("begin", "cut", "ends", "fragments", "promised", "stream")

    def __init__(self, stream: int, begin: int, *, ends: bool, promised: int) -> None:
        self.stream = stream
        self.begin = begin
        """Stream offset of its first frame."""
        self.ends = ends
        """The stream ends with it."""
        self.promised = promised
        """The stream that a PUSH_PROMISE promises; 0 in a HEADERS."""
        self.fragments = bytearray()
        self.cut = False
        """Not all of it was seen or kept."""


class Half:
    """Mutable, and changed by the conversation alone."""

    __slots__ = (
        "begin",
        "block",
        "decoder",
        "end",
        "frame",
        "last_stream",
        "losses",
        "max_frame",
        "open",
        "pending",
        "position",
        "side",
        "sought",
        "step",
    )

    def __init__(self, side: Side, position: int, decoder: Decoder, max_frame: int, step: Step) -> None:
        self.side = side
        self.position = position
        """Stream offset of the first of the bytes that are taken now, or will be next."""
        self.decoder = decoder
        self.max_frame = max_frame
        """The longest payload the other side has allowed at any time."""
        self.step = step
        self.pending = bytearray()
        """The beginning of a frame header, or of the preface."""
        self.begin = self.end = position
        """Stream offsets of the frame that is taken now."""
        self.frame: Frame | None = None
        self.block: Block | None = None
        self.open: dict[int, Open] = {}
        """By stream."""
        self.last_stream = 0
        """The highest stream this side has opened."""
        self.losses = 0
        """How often the framing was lost."""
        self.sought = 0
        """Pieces in which no frame boundary was found, since it was lost."""

    def __repr__(self) -> str:
        return f"{self.side.name.lower()}={self.step.__name__.strip('_')}@{self.position}"
