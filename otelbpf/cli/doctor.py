"""`otelbpf doctor`: what this host can do, tried for real."""

from __future__ import annotations

import os
import sys
from typing import Final

import click
import msgspec

_WIDTH: Final = 500


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def doctor(as_json: bool) -> int:
    """Try everything the probes need on this host, and say what each missing thing costs, and whose TLS cannot be read.
    Nothing stays behind.

    Ends with 0 when this host can be traced, with 1 when it cannot.
    """
    # Imported here: nobody waits for them who asks for --help.
    from otelbpf.sources.features import features, tiers  # noqa: PLC0415
    from otelbpf.sources.unreadable import find_unreadable  # noqa: PLC0415

    found, techniques, unreadable = features(), tiers(), find_unreadable(but=os.getpid())
    works = any(tier.works for tier in techniques)
    if as_json:
        answer = {"works": works, "tiers": techniques, "features": found, "unreadable_tls": unreadable}
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0 if works else 1
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    # What goes to a file or another program is not broken into lines.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    table = Table(box=None, show_header=False)
    for feature in found:
        mark = "[green]yes[/]" if feature.works else "[red]no[/]" if feature.needed else "[yellow]no[/]"
        lost = [] if feature.works else [f"costs: {feature.costs}", feature.remedy]
        table.add_row(mark, feature.name, "; ".join(filter(None, [feature.found, *lost])))
    for tier in techniques:
        mark = "[green]yes[/]" if tier.works else "[yellow]no[/]" if works else "[red]no[/]"
        table.add_row(mark, f"{tier.name} tier", "; ".join(filter(None, [tier.found, tier.remedy])))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())
    for program in unreadable:
        pids = ", ".join(map(str, program.pids))
        click.echo(f"TLS of {program.executable} (pid {pids}) cannot be read: {program.library}. Plain text is told.")
    best = next((tier.name for tier in techniques if tier.works), None)
    console.print(f"This host can be traced, by the {best} tier." if best else "This host cannot be traced.")
    return 0 if works else 1
