"""A bounded memory of encoded attributes, filled on a miss and read at the speed of a dict.

Most attributes of a host's spans repeat, so encoding one is nearly always a look-up. Two generations bound it: when the
young one is full it becomes the old one, and what is asked for again returns to the young one. What repeats therefore
stays, what was seen once goes, and no look-up pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otelbpf.tracing.span import AttributeValue

Pair = tuple[str, AttributeValue]

LONGEST_KEPT: Final = 256
"""Longer strings are encoded each time: they hardly repeat, and the bound is to be one of bytes too."""


LARGEST_KEPT: Final = 0xFFFF
"""Larger numbers (durations, sizes of bodies) likewise; ports and status codes are below."""


class PairCache(dict[Pair, bytes]):
    """The encoding of each attribute pair: `cache[pair]`.

    Python holds 1, 1.0 and True for equal, so it relies on what `AttributeValue` promises: one key, one type. Floats
    are encoded each time, for 0.0 and -0.0 are equal too.
    """

    def __init__(self, encode: Callable[[str, AttributeValue], bytes], *, limit: int) -> None:
        super().__init__()
        self._encode = encode
        self._limit = limit
        self._old: dict[Pair, bytes] = {}

    def __missing__(self, pair: Pair) -> bytes:
        key, value = pair
        if type(value) is float or (type(value) is int and value > LARGEST_KEPT):
            return self._encode(key, value)
        encoded = self._old.get(pair)
        if encoded is None:
            encoded = self._encode(key, value)
            if len(encoded) > LONGEST_KEPT:
                return encoded
        if len(self) >= self._limit:
            self._old = dict(self)
            self.clear()
        self[pair] = encoded
        return encoded


class NameCache(dict[str, bytes]):
    """The encoding of each span name: `cache[name]`; forgotten as a whole when it is full, as names are few."""

    def __init__(self, encode: Callable[[str], bytes], *, limit: int) -> None:
        super().__init__()
        self._encode = encode
        self._limit = limit

    def __missing__(self, name: str) -> bytes:
        encoded = self._encode(name)
        if len(encoded) <= LONGEST_KEPT:
            if len(self) >= self._limit:
                self.clear()
            self[name] = encoded
        return encoded
