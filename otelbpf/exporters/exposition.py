"""What is measured of services as Prometheus reads it, in its text format and as OpenMetrics.

Names and units are translated as OpenTelemetry says
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/): dots become underscores, the unit
stands at the end, counters end in `_total`; the service is the label `job`, and what else is known of it stands once,
in `target_info`. Tens of thousands of lines must not keep the capture waiting: they are made a piece at a time, and the
labels of a series only once. A scrape reads each series while it goes on counting: its parts may differ by what comes
in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from otelbpf.exporters.text import clean
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.measures import Measures
from otelbpf.metrics.points import Family, Point
from otelbpf.metrics.series import Key
from otelbpf.tracing.span import AttributeValue

_UNITS: Final = {"s": "seconds", "By": "bytes"}
_KINDS: Final = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
_POINTS_AT_ONCE: Final = 200
_MAX_LABELS: Final = 100_000
"""Series whose labels are remembered."""
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Services = Mapping[str, Sequence[tuple[str, AttributeValue]]]
"""The resource attributes of each service."""


class Exposition:
    """Writes what is measured, as it stands when it is asked for."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._labels: dict[Key, str] = {}
        self._bounds: dict[Sequence[float], list[str]] = {}

    def pieces(self, openmetrics: bool) -> Iterator[bytes]:
        """Lines, in pieces of a bounded number of series; without OpenMetrics' end mark."""
        for family in self._measures.snapshot():
            name = metric_name(family)
            kind = _KINDS[family.kind]
            total = f"{name}_total" if kind == "counter" else name
            head = name if openmetrics else total
            yield f"# HELP {head} {family.description}\n# TYPE {head} {kind}\n".encode()
            for start in range(0, len(family.points), _POINTS_AT_ONCE):
                lines: list[str] = []
                for point in family.points[start : start + _POINTS_AT_ONCE]:
                    labels = self._labels_of(point)
                    value = point.value
                    if isinstance(value, Histogram):
                        lines += self._histogram(name, labels, value, exemplars=openmetrics)
                    else:
                        lines.append(f"{total}{{{labels}}} {value}\n" if labels else f"{total} {value}\n")
                yield "".join(lines).encode()
        yield _target_info(self._measures.exchanges.services, openmetrics=openmetrics)

    def _labels_of(self, point: Point) -> str:
        key = (point.service, point.attributes)
        known = self._labels.get(key)
        if known is None:
            pairs = [("job", point.service)] if point.service else []
            known = _labels([*pairs, *point.attributes])
            if len(self._labels) >= _MAX_LABELS:
                self._labels.clear()
            self._labels[key] = known
        return known

    def _histogram(self, name: str, labels: str, histogram: Histogram, *, exemplars: bool) -> Iterator[str]:
        bounds = self._bounds.get(histogram.bounds)
        if bounds is None:
            bounds = [*(repr(float(bound)) for bound in histogram.bounds), "+Inf"]
            self._bounds[histogram.bounds] = bounds
        counts = list(histogram.counts)
        total = histogram.total
        begun = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        if exemplars and histogram.exemplars:
            told = dict(histogram.exemplars)
            for number, count in enumerate(accumulate(counts)):
                yield f'{begun}le="{bounds[number]}"}} {count}{_exemplar(told.get(number))}\n'
        else:
            for bound, count in zip(bounds, accumulate(counts), strict=True):
                yield f'{begun}le="{bound}"}} {count}\n'
        braced = f"{{{labels}}}" if labels else ""
        yield f"{name}_count{braced} {sum(counts)}\n{name}_sum{braced} {total}\n"


def metric_name(family: Family) -> str:
    """The name of a metric, without the `_total` of counters."""
    name = family.name.replace(".", "_")
    unit = _UNITS.get(family.unit, "")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def _labels(pairs: Sequence[tuple[str, AttributeValue]]) -> str:
    return ",".join(f'{name.replace(".", "_")}="{_text(value).translate(_ESCAPES)}"' for name, value in pairs)


def _text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(",".join(value) if isinstance(value, tuple) else str(value))


def _exemplar(told: tuple[float, bytes, bytes, int] | None) -> str:
    if told is None:
        return ""
    value, trace_id, span_id, time_ns = told
    return f' # {{trace_id="{trace_id.hex()}",span_id="{span_id.hex()}"}} {value} {time_ns / 1e9}'


def _target_info(services: Services, *, openmetrics: bool) -> bytes:
    lines = ["# HELP target_info What is known of a service.\n# TYPE target_info gauge\n"]
    if openmetrics:
        lines = ["# HELP target What is known of a service.\n# TYPE target info\n"]
    lines += [f"target_info{{{_labels([('job', service), *known])}}} 1\n" for service, known in list(services.items())]
    return "".join(lines).encode()
