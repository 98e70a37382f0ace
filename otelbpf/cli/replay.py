"""`otelbpf replay`: the same pipeline from a file. Needs no root, no kernel and no BCC."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from otelbpf.cli.options import load_settings, replay_options
from otelbpf.errors import ExportError


@click.command()
@click.argument("file")
@replay_options
def replay(file: str, config_file: str | None, **options: Any) -> None:
    """Make spans of FILE: what `otelbpf record` wrote, or packets as tcpdump writes them (pcap, pcapng).

    The kind is told by the file's first bytes. From packets each exchange is reported once, as SERVER, with the
    server's address:port as service.name. What a damaged file holds before the damage is exported; then the error names
    the place.

    \b
    otelbpf replay out.cap                         a line a span
    otelbpf replay out.cap --export file:-         OTLP/JSON lines on standard output
    otelbpf replay traffic.pcapng --export otlp    to OTEL_EXPORTER_OTLP_ENDPOINT
    """
    loaded = load_settings(config_file, options)
    # Imported here: nobody waits for them who asks for --help.
    from otelbpf.cli.signals import Signals  # noqa: PLC0415
    from otelbpf.cli.trace import open_files, start_exporters, trace  # noqa: PLC0415
    from otelbpf.sources.replay import open_replay  # noqa: PLC0415
    from otelbpf.telemetry.ledger import Ledger  # noqa: PLC0415
    from otelbpf.telemetry.log import configure  # noqa: PLC0415

    configure(level=loaded.settings.log.level)
    ledger = Ledger()
    with Signals() as signals, closing(open_replay(file)) as source:
        files = open_files(loaded.settings)
        exporters = start_exporters(loaded, ledger, files=files, can_wait=True)
        signals.stops(source.stop)
        trace(source, loaded.settings, ledger=ledger, exporters=exporters, stop=source.stop)
    for name, account in ledger.exports.items():
        if lost := account.lost.total():
            raise ExportError(
                f"{lost:,} of {account.accepted:,} spans given to {name} were not exported",
                "the warnings say why; replay again when that is mended",
            )
