"""Histograms of powers of two: the very buckets that the SDK has for the same values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ExponentialHistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from otelbpf.metrics.exponential import MAX_BUCKETS, MAX_SCALE, FineHistogram, index_of
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.options import MetricsOptions
from tests.fake_kernel import FakeKernel

Told = tuple[int, int, dict[int, int]]


def ours(values: list[float]) -> Told:
    """Scale, zeros, counts by bucket."""
    histogram = FineHistogram((1.0,))
    for value in values:
        histogram.add(value)
    scale, counts = histogram.buckets
    return scale, histogram.zeros, counts


def theirs(values: list[float]) -> Told:
    """The same of the SDK."""
    reader = InMemoryMetricReader()
    aggregation = ExponentialBucketHistogramAggregation(max_size=MAX_BUCKETS, max_scale=MAX_SCALE)
    view = View(instrument_name="*", aggregation=aggregation)
    instrument = MeterProvider(metric_readers=[reader], views=[view]).get_meter("test").create_histogram("h")
    for value in values:
        instrument.record(value)
    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert isinstance(point, ExponentialHistogramDataPoint)
    counts = enumerate(point.positive.bucket_counts, point.positive.offset)
    return point.scale, point.zero_count, {index: count for index, count in counts if count}


@given(st.lists(st.integers(1, 10**12).map(lambda number: number / 1e9), min_size=2, max_size=40))
def test_durations_fall_where_the_sdk_puts_them(values: list[float]) -> None:
    """From nanoseconds to a quarter of an hour."""
    assert ours(values) == theirs(values)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, 4.0, 8.0, 0.5],
        [0.0, 0.0, 3.0, 7.0],
        [1.0, 1.0 + 2**-40],
        [1e-300, 1e300],
        [float(size) for size in (0, 1, 255, 256, 257, 1 << 40)],
    ],
)
def test_sizes_and_extremes_too(values: list[float]) -> None:
    assert ours(values) == theirs(values)


@given(st.floats(1e-9, 1e9), st.integers(-6, 20))
def test_a_value_lies_within_its_bucket(value: float, scale: int) -> None:
    index = index_of(value, scale)
    near = 1e-9 * max(1, abs(math.log2(value)))
    assert index / 2.0**scale - near <= math.log2(value) <= (index + 1) / 2.0**scale + near


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=60))
def test_no_more_buckets_than_there_may_be_and_nothing_is_lost(values: list[float]) -> None:
    _, zeros, counts = ours(values)
    assert max(counts) - min(counts) < MAX_BUCKETS
    assert (zeros, sum(counts.values())) == (0, len(values))


def test_exchanges_are_counted_so_where_it_is_asked_for() -> None:
    """The same values as by bounds, in every histogram of requests and of the graph."""
    kernel = FakeKernel(metrics=MetricsOptions(exponential=True))
    for number in range(5):
        request = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % number + b"x" * number
        kernel.accept(peer_port=40000 + number).receive(request).send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    found = 0
    for family in kernel.pipeline.measures.exchanges.snapshot():
        for point in family.points:
            if isinstance(point.value, Histogram):
                assert isinstance(point.value, FineHistogram)
                assert sum(point.value.buckets[1].values()) + point.value.zeros == point.value.count == 5
                found += 1
    assert found == 4  # duration, both sizes, and the server's side of the edge
