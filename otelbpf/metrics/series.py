"""What a metric is made of here: series of one value each, told apart by a service and attributes, in a bounded number.

What finds no place of its own goes, together with all others, to the overflow series (`otel.metric.overflow`), so that
sums stay right whatever a client invents.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Literal, TypeVar

import msgspec

Attributes = tuple[tuple[str, str | int], ...]
Key = tuple[str, Attributes]
"""A service and what tells its series apart."""
OVERFLOW: Final[Key] = ("", (("otel.metric.overflow", "true"),))
SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what takes microseconds within a host and seconds when something is wrong."""

T = TypeVar("T")


class Histogram:
    """Values counted by explicit bounds, each bucket including its upper one (OTLP's HistogramDataPoint)."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[float, bytes, bytes, int]] = {}
        """By bucket its newest value that has a span: the value, the trace's and the span's ids, Unix time."""

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)


class Point(msgspec.Struct, frozen=True):
    """One series as it stands; a histogram goes on counting, so whoever takes the snapshot reads it there and then."""

    service: str
    attributes: Attributes
    value: int | float | Histogram


class Family(msgspec.Struct, frozen=True):
    """One metric with its series."""

    name: str
    kind: Literal["counter", "updown", "gauge", "histogram"]
    unit: str
    description: str
    points: tuple[Point, ...]


class Table(Generic[T]):
    """The series of one or several metrics that are told apart alike."""

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._series: dict[Key, T] = {}

    def __iter__(self) -> Iterator[tuple[Key, T]]:
        return iter(list(self._series.items()))

    def of(self, service: str, attributes: Attributes = ()) -> T:
        """The series of these, or the overflow series."""
        key = (service, attributes)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= self._limit - (OVERFLOW not in self._series):
                key = OVERFLOW
            found = self._series.setdefault(key, self._make())
        return found

    def points(self, value: Callable[[T], int | float | Histogram | None], *more: tuple[str, str]) -> Iterator[Point]:
        """A point for each series that has this value, with `more` attributes."""
        for (service, attributes), series in self:
            found = value(series)
            if found is not None:
                yield Point(service, (*attributes, *more), found)
