"""Metrics over OTLP, every so often, on a thread of its own.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/: OTEL_EXPORTER_OTLP_METRICS_<NAME> goes before
OTEL_EXPORTER_OTLP_<NAME>. What one interval could not deliver, the next one tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from otelbpf.errors import ConfigError
from otelbpf.exporters.base import Delivered, Outcome, Sender, Unavailable
from otelbpf.exporters.metrics_encode import MetricsEncoder, Services
from otelbpf.exporters.otlp import METRICS, open_sender, read_settings
from otelbpf.metrics.points import Family
from otelbpf.telemetry.log import RateLimited, logger

_OTLP: Final = "OTEL_EXPORTER_OTLP_"
_REMEDY: Final = "send metrics elsewhere (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) or nowhere (OTEL_METRICS_EXPORTER=none)"


class MetricsExporter:
    """Sends a snapshot each interval, and a last one at its end."""

    def __init__(
        self,
        *,
        destination: str,
        encoder: MetricsEncoder,
        sender: Sender,
        snapshot: Callable[[], Iterable[Family]],
        services: Callable[[], Services],
        interval_seconds: float,
        attempt_seconds: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._encoder = encoder
        self._sender = sender
        self._snapshot = snapshot
        self._services = services
        self._interval_seconds = interval_seconds
        self._attempt_seconds = attempt_seconds
        self._clock = clock
        self._end = threading.Event()
        log = logger(exporter="otlp", signal="metrics", to=destination)
        self._unavailable = RateLimited(log)
        self._refused = RateLimited(log, interval_seconds=3600.0)
        self._thread = threading.Thread(target=self._run, name="otelbpf-export-metrics", daemon=True)
        self._thread.start()

    def shutdown(self, timeout_seconds: float) -> None:
        """Send what has come since, once."""
        self._attempt_seconds = min(self._attempt_seconds, max(timeout_seconds, 0.01))
        self._end.set()
        self._thread.join(timeout_seconds)
        self._sender.close()

    def _run(self) -> None:
        while not self._end.wait(self._interval_seconds):
            self._export()
        self._export()

    def _export(self) -> None:
        payload = self._encoder.encode(self._snapshot(), self._services(), self._clock())
        if not payload:
            return
        match self._attempt(payload):
            case Delivered(rejected, reason):
                self._encoder.delivered()
                self._unavailable.recovered("exporter.recovered")
                if rejected or reason:
                    self._refused.warn("exporter.partly_rejected", reason=reason, points=rejected)
            case Unavailable(reason):
                self._unavailable.warn("exporter.unavailable", reason=reason)
            case other:
                self._refused.warn("exporter.rejected", reason=other.reason, remedy=_REMEDY)

    def _attempt(self, payload: bytes) -> Outcome:
        try:
            return self._sender.send(payload, self._attempt_seconds)
        except Exception as error:  # noqa: BLE001
            # Transports are strangers' code; whatever they raise is a failed attempt.
            return Unavailable(f"{type(error).__name__}: {error}")


def has_endpoint(environment: Mapping[str, str]) -> bool:
    """Whether anybody said where metrics go."""
    return any(environment.get(_OTLP + name, "").strip() for name in ("METRICS_ENDPOINT", "ENDPOINT"))


def open_metrics(
    environment: Mapping[str, str],
    *,
    version: str,
    delta: bool,
    interval_seconds: float,
    attempt_seconds: float,
    snapshot: Callable[[], Iterable[Family]],
    services: Callable[[], Services],
) -> MetricsExporter:
    """A running exporter; raises a ConfigError that names the variable."""
    try:
        mapped = as_traces(environment)
        settings = read_settings(mapped)
    except ConfigError as error:
        raise ConfigError(error.problem.replace("_TRACES_", "_METRICS_"), error.remedy) from error
    return MetricsExporter(
        destination=f"{settings.destination} ({settings.protocol})",
        encoder=MetricsEncoder(version=version, delta=delta, start_ns=time.time_ns()),
        sender=open_sender(settings, environment=mapped, signal=METRICS),
        snapshot=snapshot,
        services=services,
        interval_seconds=interval_seconds,
        attempt_seconds=min(settings.timeout_seconds, attempt_seconds),
    )


def as_traces(environment: Mapping[str, str]) -> dict[str, str]:
    """The same with what holds for metrics where the transport looks for what holds for traces. JSON is not spoken of
    metrics: protobuf stands in for it."""
    metrics, traces = _OTLP + "METRICS_", _OTLP + "TRACES_"
    mapped = {name: value for name, value in environment.items() if not name.startswith((metrics, traces))}
    for name, value in environment.items():
        if name.startswith(metrics) and value.strip():
            mapped[traces + name.removeprefix(metrics)] = value
    protocol = mapped.get(traces + "PROTOCOL", "").strip() or mapped.get(_OTLP + "PROTOCOL", "").strip()
    if protocol.lower() == "http/json":
        mapped[traces + "PROTOCOL"] = "http/protobuf"
    if not mapped.get(traces + "ENDPOINT", "").strip() and read_settings(mapped).protocol != "grpc":
        base = mapped.get(_OTLP + "ENDPOINT", "").strip() or "http://localhost:4318"
        mapped[traces + "ENDPOINT"] = base.removesuffix("/") + "/v1/metrics"
    return mapped
