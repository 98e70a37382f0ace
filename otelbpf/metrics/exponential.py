"""Histograms whose buckets grow by a power of two, as fine as MAX_BUCKETS of them allow.

https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram: at scale s bucket i holds the values
in (base^i, base^(i+1)] with base = 2^(2^-s). Where values lie further apart than the buckets reach, two become one, and
the scale is one less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from otelbpf.metrics.histogram import SECONDS, Bounds, Histogram

MAX_BUCKETS: Final = 160
MAX_SCALE: Final = 20
_SMALLEST: Final = 2.0**-1022
"""What is smaller is counted as this."""


class FineHistogram(Histogram):
    """Counts by bounds and by powers of two."""

    __slots__ = ("buckets", "zeros")

    def __init__(self, bounds: Bounds = SECONDS) -> None:
        super().__init__(bounds)
        self.zeros = 0
        self.buckets: tuple[int, dict[int, int]] = (MAX_SCALE, {})
        """The scale, and how many values each bucket has. One object, so that who reads meanwhile has both of one
        time."""

    def add(self, value: float) -> None:
        """Count one value; none is below zero."""
        super().add(value)
        self.add_fine(value)

    def add_fine(self, value: float) -> None:
        """Count it by powers of two only."""
        if value <= 0:
            self.zeros += 1
            return
        scale, counts = self.buckets
        index = index_of(value, scale)
        if index not in counts:
            wider = scale_for((*counts, index), scale)
            if wider != scale:
                index >>= scale - wider
                counts = widen(counts, scale - wider)
                self.buckets = (wider, counts)
        counts[index] = counts.get(index, 0) + 1


def index_of(value: float, scale: int) -> int:
    """The bucket of a value above zero."""
    fraction, exponent = math.frexp(max(value, _SMALLEST))
    exact = fraction == 0.5  # a power of two is the upper bound of its bucket
    if scale <= 0:
        return (exponent - 1 - exact) >> -scale
    if exact:
        return ((exponent - 1) << scale) - 1
    return math.floor((math.log2(fraction) + exponent) * (1 << scale))


def scale_for(indexes: Sequence[int], scale: int) -> int:
    """The finest scale at which these buckets of `scale` lie no further apart than there may be buckets."""
    low, high = min(indexes), max(indexes)
    while high - low >= MAX_BUCKETS:
        low, high, scale = low >> 1, high >> 1, scale - 1
    return scale


def widen(counts: dict[int, int], by: int) -> dict[int, int]:
    """The same counts, the scale `by` less."""
    wider: dict[int, int] = {}
    for index, count in counts.items():
        wider[index >> by] = wider.get(index >> by, 0) + count
    return wider
