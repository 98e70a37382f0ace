"""Values counted by bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otelbpf.tracing.span import Exemplars

SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what takes microseconds within a host and seconds when something is wrong."""


Bounds = tuple[float, ...]


def bucket_of(bounds: Bounds, value: float) -> int:
    """The bucket that counts a value: the first whose upper bound is not below it. As bisect.bisect_left, which
    compares objects where this, compiled, compares numbers."""
    low, high = 0, len(bounds)
    while low < high:
        middle = (low + high) >> 1
        if bounds[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


class Histogram:
    """Values counted by explicit bounds, each bucket including its upper one (OTLP's HistogramDataPoint)."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Bounds = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: Exemplars = {}

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bucket_of(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)


MakeHistogram = Callable[[Bounds], Histogram]
"""Of its bounds."""
