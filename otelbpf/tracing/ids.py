"""Trace and span ids: random, never zero (W3C Trace Context, sections 3.2.2.3 and 3.2.2.4). Seeded in tests."""

from __future__ import annotations

import random


class IdGenerator:
    """Draws ids. Without a seed they come from the operating system's entropy once, then from a Mersenne twister."""

    __slots__ = ("_bits",)

    def __init__(self, seed: int | None = None) -> None:
        self._bits = random.Random(seed).getrandbits

    def trace_id(self) -> bytes:
        """16 bytes, not all zero."""
        return (self._bits(128) or 1).to_bytes(16, "big")

    def span_id(self) -> bytes:
        """8 bytes, not all zero."""
        return (self._bits(64) or 1).to_bytes(8, "big")
