"""What `run` and `replay` share: a source's records become spans, the spans go out, and the account is told."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Sequence

import click

from otelbpf import __version__
from otelbpf.cli.balance import balance_sheet
from otelbpf.cli.collect import collect
from otelbpf.cli.filters import matcher
from otelbpf.config.load import Loaded, standard_environment
from otelbpf.config.settings import Settings
from otelbpf.events.types import Identity
from otelbpf.exporters.base import Exporter, Sender
from otelbpf.exporters.build import build_exporters
from otelbpf.exporters.file import open_file
from otelbpf.metrics.measures import Measures
from otelbpf.metrics.options import MetricsOptions
from otelbpf.pipeline import Pipeline
from otelbpf.sources.base import Source
from otelbpf.telemetry.ledger import Ledger
from otelbpf.telemetry.log import logger
from otelbpf.tracing.options import SpanOptions
from otelbpf.tracing.sampling import make_sampler
from otelbpf.tracing.span import Span

_PATIENCE_SECONDS = 60.0
"""How long a file waits for a backend that takes nothing, before spans are dropped."""


def open_files(settings: Settings) -> dict[str, Sender]:
    """The files that spans are written to, by path."""
    paths = [spec.removeprefix("file:") for spec in settings.export.to if spec.startswith("file:")]
    return {path: open_file(path) for path in paths if path != "-"}


def start_exporters(loaded: Loaded, ledger: Ledger, *, files: dict[str, Sender], can_wait: bool) -> list[Exporter]:
    """The exporters the settings ask for, running. `can_wait`: the source does, when an exporter is full."""
    export = loaded.settings.export
    return build_exporters(
        export.to,
        environment=standard_environment(loaded, os.environ),
        ledger=ledger,
        version=__version__,
        queue_bytes=export.queue_bytes,
        queue_spans=export.queue_spans,
        batch_spans=export.batch_spans,
        delay_seconds=export.delay_seconds,
        attempt_seconds=export.timeout_seconds,
        patience_seconds=_PATIENCE_SECONDS if can_wait else 0.0,
        files=files,
    )


def trace(
    source: Source,
    settings: Settings,
    *,
    ledger: Ledger,
    exporters: Sequence[Exporter],
    stop: Callable[[], object],
    publish: Callable[[Measures], Callable[[float], object]] = lambda measures: lambda seconds: None,
    ready: Callable[[], object] = lambda: None,
    duration_seconds: float = 0.0,
) -> None:
    """Everything from the source's records to the printed balance sheet. `publish` is told of what is measured on the
    way, and gives what is to be done at the end, within so many seconds. `ready` is called when nothing is left to do
    but to read: who ends soon after can still be asked who it was. An error of the source is raised after what it
    delivered before is exported and accounted for."""
    pipeline = Pipeline(
        ledger=ledger,
        emit=_emit_to(exporters),
        source=source,
        max_connections=settings.limits.connections,
        max_open_exchanges=settings.limits.pending_exchanges,
        head_limit=settings.limits.head_bytes,
        options=_options(settings),
        metrics=MetricsOptions(
            max_series=settings.metrics.max_series,
            max_of_service=settings.metrics.max_series_of_service,
            exponential=settings.metrics.histograms == "base2_exponential_bucket_histogram",
        ),
        traced=matcher(settings.filters.executables),
        unread=_name_unread if settings.capture.tls else None,
    )
    last_metrics = publish(pipeline.measures)
    # Nothing in the pipeline is kept alive by a cycle, so the collector need not look often: 7 % of the time per span.
    gc.freeze()
    gc.set_threshold(50_000, 25, 50)
    ready()
    try:
        collect(source, take=pipeline.feed, stop=stop, duration_seconds=duration_seconds)
    finally:
        pipeline.finish()
        _shut_down((*(exporter.shutdown for exporter in exporters), last_metrics), settings.export.shutdown_seconds)
        click.echo(balance_sheet(ledger), err=True)


def _options(settings: Settings) -> SpanOptions:
    return SpanOptions(
        sample=make_sampler(settings.sampling.sampler, str(settings.sampling.ratio)),
        secret_keys=settings.redaction.query_keys,
        request_headers=settings.redaction.request_headers,
        response_headers=settings.redaction.response_headers,
        known_methods=settings.conventions.known_methods,
        route_patterns=settings.routes.patterns,
        learn_routes=settings.routes.learn,
        max_routes=settings.routes.max_of_service,
        resource_extra=tuple(settings.resource.attributes.items()),
    )


def _name_unread(identity: Identity) -> None:
    """Its spans are missing, and nobody should have to find out why: the library is within the program and has no
    symbols, or is none that is known (Go, Java, rustls)."""
    logger().warning(
        "tls.not_read",
        pid=identity.pid,
        executable=identity.executable or identity.comm,
        runtime=identity.runtime_name or "unknown",
        costs="its requests inside TLS are not told; its connections are counted as tls_not_read",
    )


def _emit_to(exporters: Sequence[Exporter]) -> Callable[[Sequence[Span]], None]:
    def emit(spans: Sequence[Span]) -> None:
        for exporter in exporters:
            exporter.export(spans)

    return emit


def _shut_down(ends: Sequence[Callable[[float], object]], seconds: float) -> None:
    """All at once, so that a backend that is away takes no time from the others."""
    threads = [threading.Thread(target=end, args=(seconds,)) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
