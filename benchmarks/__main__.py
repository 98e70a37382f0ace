"""`scripts/bench [NAME ...] [--quick] [--profile] [--nice N] [--json FILE]`: measure, print figures, keep them as JSON.

Figures are printed, never judged: machines differ. The exit status is 1 where a request is neither a span nor counted
as lost, and 2 where something could not run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from benchmarks import (
    attribution,
    endurance,
    fixed,
    growth,
    http2,
    idle,
    instrumented,
    machine,
    memory,
    metrics,
    report,
    saturated,
    sidecar,
    start,
    tls,
)
from benchmarks.harness import Bench
from benchmarks.profiling import hot_spots
from benchmarks.programs import CACHE, CannotRun

BENCHMARKS: dict[str, Callable[[Bench], report.Result]] = {
    "start": start.measure,
    "saturated": saturated.measure,
    "fixed": fixed.measure,
    "endurance": endurance.measure,
    "memory": memory.measure,
    "metrics": metrics.measure,
    "growth": growth.measure,
    "http2": http2.measure,
    "grpc": http2.measure_grpc,
    "tls": tls.measure,
    "idle": idle.measure,
    "attribution": attribution.measure,
    "sidecar": sidecar.measure,
    "instrumented": instrumented.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="One round of each, a fifth of the time: shows that it works, no figures.")
@click.option("--nice", default=0, show_default=True, help="Priority the collector is started with, as nice(1) has it.")
@click.option("--profile", is_flag=True, help="Also show where the collector's time went in the last traced run.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Where to keep the figures.")
def main(names: tuple[str, ...], quick: bool, nice: int, profile: bool, json_path: Path | None) -> None:
    """Measure what tracing costs on this machine; without NAMES everything, in about half an hour."""
    console = Console(width=max(Console().width, 130), highlight=False)
    if os.geteuid() != 0:
        raise click.ClickException("the benchmarks load probes: run them as root")
    limit = machine.raise_open_files()
    described = machine.describe()
    report.show_machine(console, described)
    results, failed = [], []
    for name in names or BENCHMARKS:
        others, begun = machine.Others(), time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="otelbpf-bench-") as folder:
                Path(folder).chmod(0o755)
                stacks = Path(folder, "stacks") if profile else None
                bench = Bench(Path(folder), quick=quick, nice=nice, console=console, stacks=stacks)
                result = BENCHMARKS[name](bench)
                spots = hot_spots(stacks) if stacks is not None and stacks.exists() else []
        except (CannotRun, AssertionError) as error:  # the integration harness, too, says by assertion what is missing
            failed.append(name)
            console.print(f"{name} COULD NOT RUN: {error}", style="bold red", markup=False, soft_wrap=True)
            continue
        share, stolen = others.share()
        result = report.finished(result, others=share, stolen=stolen, seconds=time.monotonic() - begun)
        report.show(console, result)
        for line in spots:
            console.print(line, markup=False, soft_wrap=True)
        results.append(result)
    path = json_path or CACHE / "results" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    report.write(path, described, results)
    console.print(f"\nkept in {os.path.relpath(path)} (open files allowed: {limit:,})")
    if failed:
        console.print(f"could not run: {', '.join(failed)}", style="bold red")
    incomplete = [result.name for result in results if result.faults()]
    if incomplete:
        console.print(f"incomplete: {', '.join(incomplete)}", style="bold red")
    raise SystemExit(2 if failed else 1 if incomplete else 0)


if __name__ == "__main__":
    main()
