"""What the same spans cost when the application makes them: OpenTelemetry's automatic instrumentation of Python."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.account import Account, account
from benchmarks.collector import Collector, filters_of
from benchmarks.harness import SETTLE_SECONDS, Bench
from benchmarks.load import wrk, wrk_command
from benchmarks.programs import SOURCES, python
from benchmarks.report import Result, figure
from benchmarks.sink import Sink
from integration.harness.processes import Running, free_port, wait_until_serving

CONNECTIONS = 8
PLAIN, AUTOMATIC, OURS = "plain", "opentelemetry-instrument", "otelbpf"


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One load on the application."""

    per_second: float
    application_us: float
    """Processor time of the application per request; where it makes the spans, theirs is in it."""
    collector_us: float = 0.0
    served: int = 0
    """Requests the application counted, those of the benchmark included."""
    spans: int = 0
    account: Account | None = None


def measure(bench: Bench) -> Result:
    """The same application plain, instrumented, and traced from outside, in turns."""
    seconds = bench.seconds(5)
    with Sink(bench.folder) as sink:
        runs = bench.take_turns(
            bench.rounds(3),
            {
                PLAIN: lambda: _run(bench, sink, seconds=seconds),
                AUTOMATIC: lambda: _run(bench, sink, seconds=seconds, automatic=True),
                OURS: lambda: _run(bench, sink, seconds=seconds, ours=True),
            },
        )
    figures = []
    for name, several in runs.items():
        figures.append(figure(f"{name}: requests a second", "1/s", [run.per_second for run in several]))
        if name != PLAIN:
            kept = [100 * b.per_second / a.per_second for a, b in zip(runs[PLAIN], several, strict=True)]
            figures.append(figure(f"{name}: kept", "%", kept))
            whole = [100 * run.spans / run.served for run in several]
            figures.append(figure(f"{name}: requests that became spans", "%", whole))
        figures.append(figure(f"{name}: application", "us/request", [run.application_us for run in several]))
    figures.append(figure(f"{OURS}: collector", "us/span", [run.collector_us for run in runs[OURS]]))
    return Result(
        name="instrumented",
        question="what does automatic instrumentation keep of a Flask application's throughput?",
        commands=[
            " ".join(wrk_command("http://127.0.0.1:PORT/", connections=CONNECTIONS, seconds=seconds)),
            " ".join(_command("python", 0)[2:]),
            "opentelemetry-instrument gunicorn …      (otlp, http/protobuf, the SDK's defaults)",
            "otelbpf run --export otlp --pid GUNICORN --pid WORKER",
        ],
        figures=figures,
        accounts={OURS: [run.account for run in runs[OURS] if run.account]},
    )


def _command(interpreter: str | Path, port: int) -> list[str]:
    return [
        str(interpreter), "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1", "--threads", "8",
        "--keep-alive", "60", "--log-level", "warning", "--bind", f"127.0.0.1:{port}", "app:app",
    ]  # fmt: skip


def _run(bench: Bench, sink: Sink, *, seconds: float, automatic: bool = False, ours: bool = False) -> Served:
    port = free_port()
    command = _command(python(), port)
    environment = {"PYTHONPATH": str(SOURCES)}
    if automatic:
        command = [str(python().with_name("opentelemetry-instrument")), *command]
        environment |= {
            "OTEL_SERVICE_NAME": "bench",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        }
    arrived = sink.counts()
    with Running(command, folder=bench.folder, name="gunicorn", environment=environment) as running:
        wait_until_serving(running, port, ["127.0.0.1"])
        pids = sorted(running.family())
        if ours:
            return _traced(bench, sink, port, pids, seconds=seconds)
        served, per_second, spent = _load(port, pids, seconds)
    # Ended by SIGTERM, it has exported what it still held.
    return Served(
        per_second=per_second,
        application_us=spent,
        served=served,
        spans=(sink.counts() - arrived).spans,
    )


def _load(port: int, pids: list[int], seconds: float) -> tuple[int, float, float]:
    """A load; requests the application has counted, requests a second, microseconds per request."""
    before, spent = _count(port), machine.cpu_seconds(pids)
    with wrk(f"http://127.0.0.1:{port}/", connections=CONNECTIONS, seconds=seconds) as send:
        done = send()
    spent = machine.cpu_seconds(pids) - spent
    time.sleep(SETTLE_SECONDS)
    served = _count(port)
    return served, done.per_second, spent * 1e6 / (served - before)


def _traced(bench: Bench, sink: Sink, port: int, pids: list[int], *, seconds: float) -> Served:
    with Collector(bench.folder, *filters_of(pids), sink=sink, nice=bench.nice) as collector:
        arrived, before, spent = sink.counts(), _count(port), collector.cpu_seconds()
        served, per_second, application_us = _load(port, pids, seconds)
        collector.wait_until_idle()
        spent = collector.cpu_seconds() - spent
        ended = collector.end()
    served -= before - 1
    told = account(
        made=served,
        served=served,
        sheet=ended.sheet,
        metrics=ended.metrics,
        arrived=sink.counts() - arrived,
    )
    return Served(
        per_second=per_second,
        application_us=application_us,
        collector_us=spent * 1e6 / max(told.spans, 1),
        served=served,
        spans=told.spans,
        account=told,
    )


def _count(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as answer:
        return int(answer.read())
