"""Metric families as Prometheus has them, names and units translated as OpenTelemetry says.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/: dots become underscores, the unit
stands at the end, counters end in `_total`; the service is the label `job`, and what else is known of it stands once,
in `target_info`. A scrape copies each series while it goes on counting: its parts may differ by what comes in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from otelbpf.metrics.measures import Measures
from otelbpf.metrics.series import Family, Histogram, Point
from otelbpf.tracing.span import AttributeValue

_UNITS: Final = {"s": "seconds", "By": "bytes"}
_KINDS: Final = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
Services = Mapping[str, tuple[tuple[str, AttributeValue], ...]]
"""The resource attributes of each service."""


class FamilyMetrics(Collector):
    """What is measured of services, read when it is asked for."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        for family in self._measures.snapshot():
            yield _translate(family)
        yield _target_info(self._measures.exchanges.services)


def metric_name(family: Family) -> str:
    """The name of a metric, without the `_total` of counters."""
    name = family.name.replace(".", "_")
    unit = _UNITS.get(family.unit, "")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def _translate(family: Family) -> Metric:
    name = metric_name(family)
    metric = Metric(name, family.description, _KINDS[family.kind])
    for point in family.points:
        labels = _labels(point)
        if isinstance(point.value, Histogram):
            _add_histogram(metric, name, labels, point.value)
        else:
            metric.add_sample(f"{name}_total" if family.kind == "counter" else name, labels, point.value)
    return metric


def _labels(point: Point) -> dict[str, str]:
    labels = {"job": point.service} if point.service else {}
    labels.update({name.replace(".", "_"): _text(value) for name, value in point.attributes})
    return labels


def _add_histogram(metric: Metric, name: str, labels: dict[str, str], histogram: Histogram) -> None:
    counts = list(histogram.counts)
    bounds = [*map(float, histogram.bounds), float("inf")]
    for number, (bound, count) in enumerate(zip(bounds, accumulate(counts), strict=True)):
        told = histogram.exemplars.get(number)
        exemplar = None
        if told is not None:
            value, trace_id, span_id, time_ns = told
            exemplar = Exemplar({"trace_id": trace_id.hex(), "span_id": span_id.hex()}, value, time_ns / 1e9)
        metric.add_sample(f"{name}_bucket", {**labels, "le": _bound(bound)}, count, None, exemplar)
    metric.add_sample(f"{name}_count", labels, sum(counts))
    metric.add_sample(f"{name}_sum", labels, histogram.total)


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)


def _target_info(services: Services) -> Metric:
    metric = Metric("target", "What is known of a service.", "info")
    for service, attributes in list(services.items()):
        labels = {name.replace(".", "_"): _text(value) for name, value in attributes}
        metric.add_sample("target_info", {"job": service, **labels}, 1)
    return metric


def _text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)
