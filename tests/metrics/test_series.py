"""Series in a bounded number: what is too many is counted together."""

from __future__ import annotations

from otelbpf.metrics.series import OVERFLOW, Histogram, Point, Table


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
    assert sums == {("service", (("peer", "0"),)): 1, ("service", (("peer", "1"),)): 1, OVERFLOW: 998}


def test_those_that_have_a_place_keep_it() -> None:
    table: Table[list[int]] = Table(list, 2)
    table.of("first").append(1)
    table.of("second").append(1)
    table.of("first").append(1)

    assert list(table.points(len, ("more", "x"))) == [
        Point("first", (("more", "x"),), 2),
        Point("", (("otel.metric.overflow", "true"), ("more", "x")), 1),
    ]
