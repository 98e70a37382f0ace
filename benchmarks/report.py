"""Figures and what stands beside them: printed as tables for people, written as JSON for comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.account import Account
from benchmarks.machine import Machine


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity, measured once a round."""

    what: str
    unit: str
    values: tuple[float, ...]
    aim: str = ""

    @property
    def median(self) -> float:
        """Of all rounds."""
        return statistics.median(self.values)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a benchmark found out."""

    name: str
    question: str
    commands: list[str]
    figures: list[Figure]
    accounts: dict[str, list[Account]] = {}
    """Completeness of every traced run, by variant."""
    notes: list[str] = []
    others: float = 0.0
    """Part of the machine that was busy with something else meanwhile."""
    stolen: float = 0.0
    seconds: float = 0.0

    def faults(self) -> list[str]:
        """Violations of completeness."""
        return [f"{name}: {fault}" for name, runs in self.accounts.items() for run in runs for fault in run.faults()]


def figure(what: str, unit: str, values: Sequence[float], aim: str = "") -> Figure:
    """A figure of the values of all rounds."""
    return Figure(what=what, unit=unit, values=tuple(values), aim=aim)


def finished(result: Result, *, others: float, stolen: float, seconds: float) -> Result:
    """The result with what stood around it."""
    return msgspec.structs.replace(result, others=others, stolen=stolen, seconds=seconds)


def show_machine(console: Console, machine: Machine) -> None:
    """The line above all figures."""
    kind = "virtual machine" if machine.hypervisor else "hardware"
    console.print(
        f"{machine.cpu}, {machine.processors} processors ({kind}), {machine.memory_bytes / 2**30:.0f} GiB, "
        f"Linux {machine.kernel}, Python {machine.python}, load {machine.load_average[0]:.2f}"
    )


def show(console: Console, result: Result) -> None:
    """One benchmark."""
    console.print()
    console.print(f"[bold]{result.name}[/bold]: {result.question}")
    for command in result.commands:
        console.print(f"  $ {command}", markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("figure", "median", "min", "max", "unit", "rounds", "aim"):
        table.add_column(heading, justify="right" if heading in ("median", "min", "max", "rounds") else "left")
    for each in result.figures:
        numbers = [number(value) for value in (each.median, min(each.values), max(each.values))]
        table.add_row(each.what, *numbers, each.unit, str(len(each.values)), each.aim)
    console.print(table)
    if result.accounts:
        console.print(_accounts(result))
    for note in result.notes:
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"  others took {result.others:.1%} of the machine meanwhile, the host {result.stolen:.1%}; "
        f"{result.seconds:.0f} s",
        highlight=False,
    )
    for fault in result.faults():
        console.print(f"  INCOMPLETE {fault}", style="bold red", markup=False)


def _accounts(result: Result) -> Table:
    table = Table()
    for heading in ("completeness", "made", "served", "begun", "spans", "arrived", "uncounted"):
        table.add_column(heading, justify="left" if heading == "completeness" else "right")
    table.add_column("lost and counted")
    for name, runs in result.accounts.items():
        for run in runs:
            arrived = "-" if run.arrived is None else f"{run.arrived.spans:,}"
            counts = [f"{count:,}" for count in (run.made, run.served, run.begun, run.spans)]
            table.add_row(name, *counts, arrived, f"{run.uncounted:,}", run.lost_text())
    return table


def number(value: float) -> str:
    """Three or four digits that mean something."""
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def write(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """All of it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": machine, "results": list(results)}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
