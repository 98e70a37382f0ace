"""What a stream delivers: bytes in their place, or word of those that will not come."""

from __future__ import annotations

import msgspec

from otelbpf.protocols.base import Gap


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Bytes as one system call had them, or a gap, at a stream offset."""

    sent: bool
    """By this socket; otherwise received."""
    offset: int
    data: bytes
    gap: Gap | None = None
