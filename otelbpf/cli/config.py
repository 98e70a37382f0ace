"""`otelbpf config`: is this file right, and which settings are in force?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from otelbpf.cli.options import load_settings, run_options

if TYPE_CHECKING:
    from otelbpf.config.load import Loaded


@click.command()
@click.option("--check", "checked", metavar="FILE", help="Read FILE and name every mistake in it.")
@click.option("--print", "printed", is_flag=True, help="Print every setting, its value and where it comes from.")
@run_options
def config(checked: str | None, printed: bool, config_file: str | None, **options: Any) -> None:
    """Check a configuration file, or print every setting in force.

    What counts: default < file < environment < flags. `--print` takes the flags of `run`, to show what they would do.

    \b
    otelbpf config --check otelbpf.yaml          every mistake with line, column and the nearest valid key
    otelbpf config --print                       all settings: key, value, source
    otelbpf config --print --config otelbpf.yaml --port 8080

    The file config/otelbpf.yaml in the source shows every setting at its default, with a comment.
    """
    if checked is None and not printed:
        raise click.UsageError("say --check FILE or --print")
    if checked is not None:
        from otelbpf.config.document import read_file  # noqa: PLC0415 - costs more than all of --help

        count = len(read_file(checked))
        load_settings(checked, {})
        click.echo(f"{checked}: {count} settings, all right")
    if printed:
        _print(load_settings(config_file, options))


def _print(loaded: Loaded) -> None:
    from otelbpf.config.table import table  # noqa: PLC0415 - as above

    rows = []
    for row in table().values():
        value = row.show(getattr(getattr(loaded.settings, row.section), row.name))
        if value and row.source.secret:
            value = "(not shown)"
        value = re.sub(r"(?<=://)[^/@]*@", "(not shown)@", value)
        rows.append((row.key, value or "-", loaded.origins[row.key]))
    widest = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        click.echo(f"{key:<{widest}}  {value:<30}  {origin}")
