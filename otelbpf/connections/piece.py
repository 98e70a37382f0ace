"""What a stream delivers: bytes in their place, or word of those that will not come."""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.base import Gap
from otelbpf.values import Value


class Piece(Value):
    """Bytes as one system call had them, or a gap, at a stream offset."""

    __match_args__ = ("sent", "offset", "data", "gap")

    def __init__(self, sent: bool, offset: int, data: bytes, gap: Gap | None = None) -> None:
        self.sent: Final = sent
        """By this socket; otherwise received."""
        self.offset: Final = offset
        self.data: Final = data
        self.gap: Final = gap
