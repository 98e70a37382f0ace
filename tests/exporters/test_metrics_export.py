"""When metrics are sent, where to, and what becomes of what did not arrive."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelbpf.errors import ConfigError
from otelbpf.exporters.base import Delivered, Outcome, Refused, Unavailable
from otelbpf.exporters.metrics_encode import MetricsEncoder
from otelbpf.exporters.metrics_export import MetricsExporter, as_traces, has_endpoint, open_metrics
from otelbpf.exporters.otlp import read_settings
from otelbpf.metrics.points import Family, Point

BOTH = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Backend:
    """Answers as told, then takes everything."""

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.taken: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.closed = False

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        answer = self.answers.pop(0) if self.answers else Delivered()
        request = ExportMetricsServiceRequest.FromString(payload)
        (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
        if isinstance(answer, Delivered):
            self.taken.append(metric.sum.data_points[0].as_int)
        self.arrived.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


def counting() -> Iterator[list[Family]]:
    """One more each time."""
    count = 0
    while True:
        count += 1
        yield [Family("c", "counter", "", "", (Point("shop", (), count),))]


def export(backend: Backend, *, delta: bool = False, interval_seconds: float = 0.01) -> MetricsExporter:
    snapshots = counting()
    return MetricsExporter(
        destination="here",
        encoder=MetricsEncoder(version="1", delta=delta, start_ns=0),
        sender=backend,
        snapshot=lambda: next(snapshots),
        services=dict,
        interval_seconds=interval_seconds,
        attempt_seconds=1.0,
    )


def test_each_interval_and_at_the_end() -> None:
    backend = Backend()
    exporter = export(backend)
    for _ in range(3):
        assert backend.arrived.acquire(timeout=10)
    exporter.shutdown(5.0)
    assert backend.taken[:3] == [1, 2, 3]
    assert backend.closed


def test_a_run_shorter_than_the_interval_is_told_too() -> None:
    backend = Backend()
    export(backend, interval_seconds=3600.0).shutdown(5.0)
    assert backend.taken == [1]


@pytest.mark.parametrize("trouble", [Unavailable("away"), Refused("no"), ValueError("a defect")])
def test_what_did_not_arrive_is_told_by_the_next(trouble: Outcome | Exception) -> None:
    """Whatever went wrong, the sum of the deltas is what was counted."""
    backend = Backend(trouble, trouble)
    exporter = export(backend, delta=True)
    for _ in range(4):
        assert backend.arrived.acquire(timeout=10)
    exporter.shutdown(5.0)
    assert backend.taken[0] == 3
    assert set(backend.taken[1:]) == {1}


@pytest.mark.parametrize(
    ("environment", "destination"),
    [
        ({BOTH: "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({BOTH: "http://c:4318/base/"}, "http://c:4318/base/v1/metrics"),
        ({BOTH: "http://c:4317"}, "http://c:4317"),
        ({BOTH: "http://c:4318", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/x"}, "http://m:1/x"),
        ({BOTH: "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1"}, "http://c:4318/v1/metrics"),
        ({BOTH: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http://c:4318/v1/metrics"),
        ({}, "http://localhost:4318/v1/metrics"),
    ],
)
def test_where_metrics_go(environment: dict[str, str], destination: str) -> None:
    assert read_settings(as_traces(environment)).destination == destination


def test_they_go_nowhere_by_themselves() -> None:
    """Only where somebody said so."""
    assert not has_endpoint({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1"})
    assert has_endpoint({BOTH: "http://c:4318"})
    assert has_endpoint({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"})


def test_a_mistake_is_called_by_its_name() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is 'grcp'"):
        open_metrics(
            {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grcp"},
            version="1",
            delta=False,
            interval_seconds=1.0,
            attempt_seconds=1.0,
            snapshot=list,
            services=dict,
        )
