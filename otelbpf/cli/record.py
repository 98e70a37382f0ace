"""`otelbpf record`: the kernel's raw records to a file, for `otelbpf replay`."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import click

from otelbpf.cli.options import load_settings, record_options


@click.command()
@click.argument("file")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it holds something.")
@record_options
def record(file: str, overwrite: bool, config_file: str | None, **options: Any) -> None:
    """Write what the probes deliver to FILE, until Ctrl-C, SIGTERM or --duration; `otelbpf replay` makes spans of it.

    FILE holds what applications sent, up to the copied length of each message: treat it as you treat the traffic.
    Needs the same rights as `otelbpf run`.

    \b
    otelbpf record out.cap --duration 10s
    otelbpf record out.cap --port 8080 --exe '*/gunicorn*'
    """
    settings = load_settings(config_file, options).settings
    if not overwrite and os.path.isfile(file) and os.path.getsize(file):
        raise click.UsageError(f"{file} holds something; choose another file, or say --overwrite")
    # Imported here: nobody waits for them who asks for --help.
    from otelbpf.cli.collect import collect  # noqa: PLC0415
    from otelbpf.cli.live import open_live, ready_line, settle, tell_limits  # noqa: PLC0415
    from otelbpf.cli.signals import Signals  # noqa: PLC0415
    from otelbpf.events.capture import CaptureWriter  # noqa: PLC0415
    from otelbpf.telemetry.log import configure  # noqa: PLC0415

    configure(level=settings.log.level)
    with Signals() as signals, closing(open_live(settings)) as source:
        writer = CaptureWriter(file)
        try:
            with writer:
                tell_limits(source)
                settle(settings, source)
                signals.stops(source.stop)
                click.echo(ready_line(source), err=True)
                seconds = settings.capture.duration_seconds
                collect(source, take=writer.write, stop=source.stop, duration_seconds=seconds)
        finally:
            click.echo(f"{file}: {writer.records:,} records, {writer.bytes:,} bytes", err=True)
