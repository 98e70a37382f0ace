"""What the pipeline asks of whoever makes exchanges of a connection's bytes, whatever they speak."""

from __future__ import annotations

import enum

from otelbpf.connections.piece import Piece
from otelbpf.exchanges.exchange import Exchange
from otelbpf.telemetry.ledger import Lost


class Phase(enum.Enum):
    """Where a conversation stands."""

    LISTENING = "listening"
    SPEAKING = "speaking"
    OVER = "over"
    """Opaque, or of no known protocol: its bytes are of no more use."""


class Dialogue:
    """One connection's conversation: pieces in, exchanges out."""

    __slots__ = ("attention", "frames", "heir", "opening", "phase")

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.attention = False
        """Something is up that the source, a clock or an heir has to do with."""
        self.heir: Dialogue | None = None
        """Who goes on with the connection: it turned out to speak, or changed to, another protocol."""
        self.frames: tuple[int, int] | None = None
        """Where a frame of HTTP/2 begins in what this socket receives and in what it sends: for a source that cannot
        know it by itself."""
        self.opening: Piece | None = None
        """What showed that it is TLS."""

    def take(self, sent: bool, offset: int, data: bytes) -> list[Exchange]:
        """The next bytes of one direction, as one system call had them; exchanges that are over now."""
        raise NotImplementedError

    def take_piece(self, piece: Piece) -> list[Exchange]:
        """The next piece, perhaps a gap."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        """Something of the server waits for the request it answers, and has to be released in time."""
        raise NotImplementedError

    @property
    def overlaps(self) -> bool:
        """Heads lie behind bodies within one turn, so the source should copy more."""
        raise NotImplementedError

    def end(self, sent: bool) -> list[Exchange]:
        """One direction has ended and all its bytes were taken."""
        raise NotImplementedError

    def close(self, error: str) -> list[Exchange]:
        """The connection is over; whatever is open ends here, with `error` where it did not end by itself."""
        raise NotImplementedError

    def release(self) -> list[Exchange]:
        """What waited has waited long enough."""
        raise NotImplementedError

    def abandon(self, reason: Lost) -> None:
        """Count everything still open as lost, and look no further."""
        raise NotImplementedError
