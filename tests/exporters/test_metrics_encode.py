"""Metrics as OTLP: what comes back when the bytes are read by the official messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from otelbpf.exporters.metrics_encode import MetricsEncoder
from otelbpf.metrics.exponential import FineHistogram
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Family, Point

_CUMULATIVE, _DELTA = pb.AGGREGATION_TEMPORALITY_CUMULATIVE, pb.AGGREGATION_TEMPORALITY_DELTA
START, FIRST, SECOND, THIRD = 101_000, 102_000, 103_000, 104_000
GET = (("http.request.method", "GET"), ("server.port", 80))


class Counting:
    """One metric of each kind, of one service."""

    def __init__(self) -> None:
        self.count = 0
        self.open = 0
        self.durations = Histogram((0.1, 1.0))

    def families(self) -> list[Family]:
        return [
            Family("c", "counter", "{request}", "A counter.", (Point("shop", GET, self.count),)),
            Family("u", "updown", "", "Up and down.", (Point("shop", GET, self.open),)),
            Family("g", "gauge", "", "A gauge.", (Point("eu/shop", (), 0.5),)),
            Family("h", "histogram", "s", "A histogram.", (Point("shop", GET, self.durations),)),
        ]


def encoder(*, delta: bool) -> MetricsEncoder:
    return MetricsEncoder(version="1.2.3", delta=delta, start_ns=START)


def read(payload: bytes) -> dict[str, Any]:
    """The only point of each metric, by name."""
    return {metric.name: point for _, metric, point in points(payload)}


def points(payload: bytes) -> Iterator[tuple[Any, pb.Metric, Any]]:
    for resource in ExportMetricsServiceRequest.FromString(payload).resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data") or "").data_points:
                    yield resource, metric, point


def test_what_is_told_of_each_kind() -> None:
    """Sums since the start; a resource for each service."""
    counting = Counting()
    counting.count, counting.open = 7, -2
    for value in (0.05, 0.1, 0.5, 5.0):
        counting.durations.add(value)
    counting.durations.exemplars[1] = (0.5, b"t" * 16, b"s" * 8, 101_500)
    services = {"shop": (("host.name", "h"), ("container.image.tags", ("1", "2")))}
    payload = encoder(delta=False).encode(counting.families(), services, FIRST)

    found = {metric.name: (metric, point) for _, metric, point in points(payload)}
    counter, point = found["c"]
    assert (counter.unit, counter.description, counter.sum.is_monotonic) == ("{request}", "A counter.", True)
    assert counter.sum.aggregation_temporality == pb.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert (point.as_int, point.start_time_unix_nano, point.time_unix_nano) == (7, START, FIRST)
    assert [(pair.key, pair.value.string_value or pair.value.int_value) for pair in point.attributes] == list(GET)
    assert (found["u"][1].as_int, found["u"][0].sum.is_monotonic) == (-2, False)
    assert (found["g"][1].as_double, found["g"][1].start_time_unix_nano) == (0.5, 0)
    histogram = found["h"][1]
    assert (histogram.count, histogram.sum, list(histogram.bucket_counts)) == (4, 5.65, [2, 1, 1])
    assert list(histogram.explicit_bounds) == [0.1, 1.0]
    (exemplar,) = histogram.exemplars
    assert (exemplar.as_double, exemplar.trace_id, exemplar.span_id) == (0.5, b"t" * 16, b"s" * 8)

    resources = {
        tuple((pair.key, pair.value.string_value) for pair in resource.resource.attributes)[:2]
        for resource, _, _ in points(payload)
    }
    assert resources == {
        (("service.name", "shop"), ("host.name", "h")),
        (("service.name", "shop"), ("service.namespace", "eu")),
    }
    (resource, *_) = [resource for resource, _, _ in points(payload)]
    assert [value.string_value for value in resource.resource.attributes[2].value.array_value.values] == ["1", "2"]
    assert (resource.scope_metrics[0].scope.name, resource.scope_metrics[0].scope.version) == ("otelbpf", "1.2.3")


def test_deltas_add_up_to_what_was_counted() -> None:
    """And count from the last delivery: what was not delivered is told again."""
    counting, encode = Counting(), encoder(delta=True)
    told = []
    for now_ns, add, arrives in ((FIRST, 3, True), (SECOND, 4, False), (THIRD, 5, True)):
        counting.count += add
        counting.open += 1
        for _ in range(add):
            counting.durations.add(0.5)
        found = read(encode.encode(counting.families(), {}, now_ns))
        assert found["u"].as_int == counting.open  # never a delta
        told.append((found["c"].as_int, found["h"].count, found["h"].sum, found["c"].start_time_unix_nano))
        if arrives:
            encode.delivered()
    assert told == [(3, 3, 1.5, START), (4, 4, 2.0, FIRST), (9, 9, 4.5, FIRST)]


def test_nothing_to_tell_is_no_request() -> None:
    assert encoder(delta=False).encode([], {}, FIRST) == b""


def buckets(point: Any) -> tuple[int, int, dict[int, int], int]:
    """Scale, zeros, counts by bucket, count."""
    counts = enumerate(point.positive.bucket_counts, point.positive.offset)
    return point.scale, point.zero_count, {index: count for index, count in counts if count}, point.count


def test_histograms_of_powers_of_two() -> None:
    """Cumulative and delta, also when what comes needs a coarser scale."""
    for delta in (False, True):
        histogram = FineHistogram((0.1, 1.0))
        families = [Family("h", "histogram", "s", "A histogram.", (Point("shop", GET, histogram),))]
        encoding = encoder(delta=delta)
        for value in (0.0, 1.0, 1.0, 2.0):
            histogram.add(value)
        histogram.exemplars[1] = (1.0, b"t" * 16, b"s" * 8, 101_500)
        ((_, metric, point),) = points(encoding.encode(families, {}, FIRST))
        assert metric.WhichOneof("data") == "exponential_histogram"
        wanted = _DELTA if delta else _CUMULATIVE
        assert metric.exponential_histogram.aggregation_temporality == wanted
        scale, counts = histogram.buckets
        assert buckets(point) == (scale, 1, {((1 << scale) - 1) if scale > 0 else 0: 1, -1: 2}, 4)
        assert (point.sum, [exemplar.as_double for exemplar in point.exemplars]) == (4.0, [1.0])
        encoding.delivered()

        histogram.add(1e9)
        histogram.add(1.0)
        ((_, _, point),) = points(encoding.encode(families, {}, SECOND))
        coarser, counts = histogram.buckets
        assert coarser < scale
        high = max(counts)
        if delta:
            assert buckets(point) == (coarser, 0, {-1: 1, high: 1}, 2)
            assert (point.sum, list(point.exemplars)) == (1e9 + 1, [])
        else:
            assert buckets(point) == (coarser, 1, counts, 6)


@pytest.mark.parametrize("delta", [False, True])
def test_a_clock_that_is_set_back(delta: bool) -> None:
    """Every point still begins before it ends, and the sums are right."""
    counting = Counting()
    encoding = encoder(delta=delta)
    told = []
    for now_ns in (FIRST, THIRD, SECOND, SECOND, SECOND + 10):
        counting.count += 5
        counting.durations.add(0.5)
        payload = encoding.encode(counting.families(), {}, now_ns)
        for _, metric, point in points(payload):
            assert point.time_unix_nano == now_ns
            assert metric.name == "g" or point.start_time_unix_nano < now_ns
        told.append((read(payload)["c"].as_int, read(payload)["h"].count))
        encoding.delivered()
    assert told == ([(5, 1)] * 5 if delta else [(5 * turn, turn) for turn in range(1, 6)])
