"""What a metric is made of here: series of one value each, told apart by a service and attributes, in a bounded number.

What finds no place of its own goes, together with all others, to the overflow series (`otel.metric.overflow`) of its
service, or of all where there is no place for that either: so sums stay right whatever a client invents, and no service
takes the places of others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Literal, TypeVar

import msgspec

MAX_SERIES: Final = 10_000
"""Of each metric, over all services."""
MAX_OF_SERVICE: Final = 1000
Attributes = tuple[tuple[str, str | int], ...]
Key = tuple[str, Attributes]
"""A service and what tells its series apart."""
OVERFLOWN: Final[Attributes] = (("otel.metric.overflow", True),)
"""https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute"""
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


MakeHistogram = Callable[[Sequence[float]], Histogram]
"""Of its bounds."""


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

    def __init__(self, make: Callable[[], T], limit: int, of_service: int = 0) -> None:
        """`limit` and `of_service` count the overflow series too; without the second, any service may have all."""
        self._make = make
        self._limit = limit
        self._of_service = of_service or limit
        self._series: dict[Key, T] = {}
        self._counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[Key, T]]:
        return iter(list(self._series.items()))

    def of(self, service: str, attributes: Attributes = ()) -> T:
        """The series of these, or the overflow series."""
        found = self._series.get((service, attributes))
        if found is None and self._has_place(service, attributes):
            found = self._make_one(service, attributes)
        if found is None:
            found = self._series.get((service, OVERFLOWN))
        if found is None and self._has_place(service, OVERFLOWN):
            found = self._make_one(service, OVERFLOWN)
        if found is None:
            found = self._series.get(("", OVERFLOWN)) or self._make_one("", OVERFLOWN)
        return found

    def _has_place(self, service: str, attributes: Attributes) -> bool:
        """One place is kept for the overflow series of each service that has any, and one for that of all."""
        if len(self._series) >= self._limit - 1:
            return False
        return self._counts[service] < self._of_service - (attributes != OVERFLOWN)

    def _make_one(self, service: str, attributes: Attributes) -> T:
        self._counts[service] += 1
        made = self._series[service, attributes] = self._make()
        return made

    def points(self, value: Callable[[T], int | float | Histogram | None], *more: tuple[str, str]) -> Iterator[Point]:
        """A point for each series that has this value, with `more` attributes."""
        for (service, attributes), series in self:
            found = value(series)
            if found is not None:
                yield Point(service, (*attributes, *more), found)
