"""`otelbpf run`: trace this host."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from otelbpf.cli.options import load_settings, run_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelbpf.config.load import Loaded
    from otelbpf.config.settings import Settings
    from otelbpf.exporters.health import HealthServer
    from otelbpf.exporters.prometheus import MetricsPage
    from otelbpf.metrics.measures import Measures
    from otelbpf.sources.attach import Loader


@click.command()
@run_options
def run(config_file: str | None, **options: Any) -> None:
    """Trace this host: every HTTP and gRPC request of every process becomes a span. Needs root, or the capabilities
    that `otelbpf doctor` names.

    Without options all connections are traced. Spans go to the OTLP endpoint of the environment
    (OTEL_EXPORTER_OTLP_ENDPOINT), or to the terminal where none is set. A line on standard error that begins with
    "ready" says that every probe is attached. Ctrl-C or SIGTERM ends in order, with a balance sheet; a second one ends
    at once.

    \b
    otelbpf run                                       everything, on the terminal
    otelbpf run --port 8080,9000                      connections with one of these ports at either end
    otelbpf run --exe '*/nginx' --duration 30s        one program, half a minute
    otelbpf run --export otlp --export file:spans.jsonl
    otelbpf run --export file:- | jq .                OTLP/JSON lines
    otelbpf run --config /etc/otelbpf.yaml            all settings: config/otelbpf.yaml in the source
    curl -s 127.0.0.1:9464/metrics                    meanwhile, elsewhere: is anything lost?
    """
    loaded = load_settings(config_file, options)
    # Imported here: nobody waits for them who asks for --help. The loader has begun when the rest is.
    from otelbpf.sources.attach import Loader  # noqa: PLC0415

    with closing(Loader()) as loader:
        _run(loaded, loader)


def _run(loaded: Loaded, loader: Loader) -> None:
    from otelbpf.cli.ahead import ImportAhead  # noqa: PLC0415
    from otelbpf.cli.live import open_live, ready_line, settle, tell_limits  # noqa: PLC0415
    from otelbpf.cli.signals import Signals  # noqa: PLC0415
    from otelbpf.exporters.prometheus import MetricsPage  # noqa: PLC0415
    from otelbpf.telemetry.ledger import Ledger  # noqa: PLC0415

    settings = loaded.settings
    ledger = Ledger()
    page = MetricsPage(ledger)
    with Signals() as signals, _health(settings, page) as health, ExitStack() as stack:
        with ImportAhead(loaded):
            own_ports = [health.port] if health else []
            source = stack.enter_context(closing(open_live(settings, loader=loader, own_ports=own_ports)))
        from otelbpf.cli.trace import open_files, start_exporters, trace  # noqa: PLC0415
        from otelbpf.telemetry.log import configure  # noqa: PLC0415

        configure(level=settings.log.level)
        files = open_files(settings)
        settle(settings, source)
        exporters = start_exporters(loaded, ledger, files=files, can_wait=False)

        def stop() -> None:
            if health:
                health.draining()
            source.stop()

        def ready() -> None:
            if health:
                health.ready()
            tell_limits(source)
            click.echo(ready_line(source, listen=health.address if health else "off"), err=True)

        signals.stops(stop)
        seconds = settings.capture.duration_seconds
        trace(
            source,
            settings,
            ledger=ledger,
            exporters=exporters,
            stop=stop,
            publish=partial(_publish, loaded, page),
            ready=ready,
            duration_seconds=seconds,
        )


def _publish(loaded: Loaded, page: MetricsPage, measures: Measures) -> Callable[[float], object]:
    """Let /metrics, and a backend, have what is measured."""
    from otelbpf import __version__  # noqa: PLC0415
    from otelbpf.config.load import standard_environment  # noqa: PLC0415
    from otelbpf.exporters.exposition import Exposition  # noqa: PLC0415
    from otelbpf.exporters.metrics_export import has_endpoint, open_metrics  # noqa: PLC0415

    settings = loaded.settings.metrics
    environment = standard_environment(loaded, os.environ)
    if settings.to != "none":
        page.more = Exposition(measures).pieces
    if settings.to != "otlp" and not (settings.to == "auto" and has_endpoint(environment)):
        return lambda seconds: None
    exporter = open_metrics(
        environment,
        version=__version__,
        delta=settings.temporality != "cumulative",
        interval_seconds=settings.interval_seconds,
        attempt_seconds=settings.timeout_seconds,
        snapshot=measures.snapshot,
        services=lambda: dict(measures.exchanges.services),
    )
    return exporter.shutdown


def _health(settings: Settings, page: MetricsPage) -> AbstractContextManager[HealthServer | None]:
    from otelbpf.exporters.health import HealthServer  # noqa: PLC0415
    from otelbpf.sources.privileges import drop_privileges  # noqa: PLC0415

    if settings.health.listen == "off":
        return nullcontext()
    return HealthServer(
        settings.health.listen,
        metrics=page.render,
        prepare=partial(drop_privileges, ()) if settings.privileges.drop else lambda: None,
    )
