"""Series in a bounded number: what is too many is counted together."""

from __future__ import annotations

from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Point
from otelbpf.metrics.series import OVERFLOWN, Key, Table


def test_a_value_on_a_bound_is_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)

    assert (histogram.counts, histogram.count, histogram.total) == ([2, 2, 1], 5, 7.5)


def test_what_finds_no_place_overflows_and_sums_stay_right() -> None:
    table: Table[list[int]] = Table(list, 3)
    for number in range(1000):
        table.of("service", (("peer", str(number)),)).append(1)

    sums = {key: len(series) for key, series in table}
    assert sums == {("service", (("peer", "0"),)): 1, ("service", (("peer", "1"),)): 1, ("", OVERFLOWN): 998}


def test_no_service_takes_the_places_of_others() -> None:
    """Each has so many, its own overflow series among them; and all together have so many."""
    table: Table[list[int]] = Table(list, 10, 4)
    for service in "abcd":
        for number in range(100):
            table.of(service, (("peer", str(number)),)).append(1)

    sums = {key: len(series) for key, series in table}
    own: dict[Key, int] = {(service, (("peer", str(number)),)): 1 for service in "ab" for number in range(3)}
    own["c", (("peer", "0"),)] = 1
    assert sums == {**own, ("a", OVERFLOWN): 97, ("b", OVERFLOWN): 97, ("", OVERFLOWN): 99 + 100}


def test_those_that_have_a_place_keep_it() -> None:
    table: Table[list[int]] = Table(list, 2)
    table.of("first").append(1)
    table.of("second").append(1)
    table.of("first").append(1)

    assert list(table.points(len, ("more", "x"))) == [
        Point("first", (("more", "x"),), 2),
        Point("", (("otel.metric.overflow", True), ("more", "x")), 1),
    ]
