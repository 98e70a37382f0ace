"""Metric families as an OTLP ExportMetricsServiceRequest.

https://opentelemetry.io/docs/specs/otel/metrics/data-model/: a resource for each service, sums since the start
(cumulative) or since the last delivery (delta). What a delta counts from moves on only when a request was delivered, so
that one that got lost loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from otelbpf.metrics.exponential import MAX_SCALE, FineHistogram, widen
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Attributes, Family, Point
from otelbpf.tracing.span import SCOPE_NAME, AttributeValue

_CUMULATIVE: Final = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = pb.AGGREGATION_TEMPORALITY_DELTA
Services = Mapping[str, Sequence[tuple[str, AttributeValue]]]
"""What is known of each service."""
_Key = tuple[str, str, Attributes]


class _Fine(msgspec.Struct, frozen=True):
    """How far a histogram of powers of two had come."""

    scale: int = MAX_SCALE
    counts: dict[int, int] = {}
    zeros: int = 0

    @classmethod
    def of(cls, histogram: FineHistogram) -> _Fine:
        """As it stands."""
        scale, counts = histogram.buckets
        return cls(scale, dict(counts), histogram.zeros)

    def since(self, before: _Fine) -> _Fine:
        """What came after `before`, whose scale was as fine or finer."""
        past = widen(before.counts, before.scale - self.scale)
        counts = {index: count - past.get(index, 0) for index, count in self.counts.items()}
        return _Fine(self.scale, {index: count for index, count in counts.items() if count}, self.zeros - before.zeros)


class _Sum(msgspec.Struct, frozen=True):
    """How far a series had come: a number, or a histogram's counts and total."""

    value: int | float
    counts: tuple[int, ...] = ()
    fine: _Fine = _Fine()


_NOTHING: Final = _Sum(0)


class MetricsEncoder:
    """Encodes snapshots one after the other."""

    def __init__(self, *, version: str, delta: bool, start_ns: int) -> None:
        """`delta`: counters and histograms tell what came since the last delivery; `start_ns`: Unix time at which they
        began to count."""
        self._version = version
        self._delta = delta
        self._start_ns = start_ns
        self._delivered_ns = self._latest_ns = start_ns
        self._delivered: dict[_Key, _Sum] = {}
        self._pending: dict[_Key, _Sum] = {}
        self._pending_ns = start_ns

    def encode(self, families: Iterable[Family], services: Services, now_ns: int) -> bytes:
        """A request with every series; empty where there is nothing to tell."""
        if now_ns <= self._latest_ns:
            # The clock was set back, and what began before would begin after its end.
            step_ns = self._latest_ns - now_ns + 1
            self._start_ns -= step_ns
            self._delivered_ns -= step_ns
        self._latest_ns = now_ns
        self._pending, self._pending_ns = {}, now_ns
        request = ExportMetricsServiceRequest()
        scopes: dict[str, pb.ScopeMetrics] = {}
        for family in families:
            of_service: dict[str, pb.Metric] = {}
            for point in family.points:
                metric = of_service.get(point.service)
                if metric is None:
                    scope = scopes.get(point.service)
                    if scope is None:
                        scope = scopes[point.service] = self._scope(request, point.service, services)
                    metric = of_service[point.service] = scope.metrics.add(
                        name=family.name, description=family.description, unit=family.unit
                    )
                self._add(metric, family, point, now_ns)
        return request.SerializeToString() if scopes else b""

    def delivered(self) -> None:
        """What was encoded last has arrived."""
        if self._delta:
            self._delivered, self._delivered_ns = self._pending, self._pending_ns

    def _scope(self, request: ExportMetricsServiceRequest, service: str, services: Services) -> pb.ScopeMetrics:
        resource = request.resource_metrics.add()
        namespace, slash, name = service.rpartition("/")
        if service:
            resource.resource.attributes.append(_pair("service.name", name))
            if slash:
                resource.resource.attributes.append(_pair("service.namespace", namespace))
        resource.resource.attributes.extend(_pair(*pair) for pair in services.get(service, ()))
        scope = resource.scope_metrics.add()
        scope.scope.name, scope.scope.version = SCOPE_NAME, self._version
        return scope

    def _add(self, metric: pb.Metric, family: Family, point: Point, now_ns: int) -> None:
        attributes = [_pair(*pair) for pair in point.attributes]
        times = {"start_time_unix_nano": self._delivered_ns if self._delta else self._start_ns}
        times["time_unix_nano"] = now_ns
        if family.kind in ("gauge", "updown"):
            assert not isinstance(point.value, Histogram)
            if family.kind == "gauge":
                points = metric.gauge.data_points
                times.pop("start_time_unix_nano")
            else:  # never a delta (lowmemory and delta leave these cumulative)
                metric.sum.aggregation_temporality = _CUMULATIVE
                points = metric.sum.data_points
                times["start_time_unix_nano"] = self._start_ns
            points.add(attributes=attributes, **times, **_number(point.value))
            return
        key = (point.service, family.name, point.attributes)
        before = self._delivered.get(key, _NOTHING)
        temporality = _DELTA if self._delta else _CUMULATIVE
        if not isinstance(point.value, Histogram):
            self._pending[key] = _Sum(point.value)
            metric.sum.aggregation_temporality = temporality
            metric.sum.is_monotonic = True
            metric.sum.data_points.add(attributes=attributes, **times, **_number(point.value - before.value))
            return
        histogram = point.value
        total = histogram.total
        if isinstance(histogram, FineHistogram):
            fine = _Fine.of(histogram)
            self._pending[key] = _Sum(total, fine=fine)
            metric.exponential_histogram.aggregation_temporality = temporality
            told = fine.since(before.fine)
            exponential = metric.exponential_histogram.data_points.add(
                attributes=attributes,
                **times,
                count=sum(told.counts.values()) + told.zeros,
                sum=total - before.value,
                scale=told.scale,
                zero_count=told.zeros,
            )
            if told.counts:
                first = min(told.counts)
                exponential.positive.offset = first
                exponential.positive.bucket_counts.extend(
                    told.counts.get(index, 0) for index in range(first, max(told.counts) + 1)
                )
            exponential.exemplars.extend(self._exemplars(histogram))
            return
        counts = tuple(histogram.counts)
        self._pending[key] = _Sum(total, counts)
        since = [count - past for count, past in zip(counts, before.counts or (0,) * len(counts), strict=True)]
        metric.histogram.aggregation_temporality = temporality
        explicit = metric.histogram.data_points.add(
            attributes=attributes,
            **times,
            count=sum(since),
            sum=total - before.value,
            bucket_counts=since,
            explicit_bounds=histogram.bounds,
        )
        explicit.exemplars.extend(self._exemplars(histogram))

    def _exemplars(self, histogram: Histogram) -> Iterator[pb.Exemplar]:
        for value, trace_id, span_id, time_ns in list(histogram.exemplars.values()):
            if not self._delta or time_ns >= self._delivered_ns:
                yield pb.Exemplar(as_double=value, trace_id=trace_id, span_id=span_id, time_unix_nano=time_ns)


def _number(value: int | float) -> dict[str, int | float]:
    return {"as_int": value} if isinstance(value, int) else {"as_double": value}


def _pair(name: str, value: AttributeValue) -> KeyValue:
    return KeyValue(key=name, value=_value(value))


def _value(value: AttributeValue) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, tuple):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=value.encode("utf-8", "replace").decode())
