"""What a metric is made of here: series of one value each, told apart by a service and attributes, in a bounded number.

What finds no place of its own goes, together with all others, to the overflow series (`otel.metric.overflow`) of its
service, or of all where there is no place for that either: so sums stay right whatever a client invents, and no service
takes the places of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Attributes, Point

MAX_SERIES: Final = 10_000
"""Of each metric, over all services."""
MAX_OF_SERVICE: Final = 1000
Key = tuple[str, Attributes]
"""A service and what tells its series apart."""
OVERFLOWN: Final[Attributes] = (("otel.metric.overflow", True),)
"""https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute"""
T = TypeVar("T")


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
