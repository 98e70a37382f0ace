"""What all benchmarks share: variants measured in turns (A B A B), each traced run with its account."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console

from benchmarks import machine
from benchmarks.account import Account, account
from benchmarks.collector import Collector, filters_of
from benchmarks.load import Load, Opened
from benchmarks.profiling import profiled
from benchmarks.servers import Server
from benchmarks.sink import Sink

T = TypeVar("T")
SETTLE_SECONDS = 0.2
"""After a load generator has closed its connections, the server still answers what was under way."""


class Bench:
    """The means of a benchmark: a folder, how long it may take, and where it says what it does."""

    def __init__(self, folder: Path, *, quick: bool, nice: int, console: Console, stacks: Path | None = None) -> None:
        """`stacks`: where to keep samples of the collector's stacks, when they are wanted."""
        self.folder = folder
        self.quick = quick
        self.nice = nice
        self.stacks = stacks
        self._console = console

    def rounds(self, full: int) -> int:
        """How many rounds: `full`, or one."""
        return 1 if self.quick else full

    def seconds(self, full: float) -> float:
        """How long one measurement lasts: `full`, or a fifth."""
        return max(full / 5, 1.0) if self.quick else full

    def say(self, what: str) -> None:
        """What is being done now."""
        self._console.print(f"  … {what}", style="dim", markup=False, highlight=False)

    def take_turns(self, rounds: int, variants: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Every variant once a round, in order: what drifts meanwhile drifts for all of them."""
        found: dict[str, list[T]] = {name: [] for name in variants}
        for index in range(rounds):
            for name, measure in variants.items():
                self.say(f"{name}, round {index + 1} of {rounds}")
                found[name].append(measure())
        return found

    @contextmanager
    def collector(self, server: Server, *, sink: Sink | None, both_ends: bool = False) -> Iterator[Collector]:
        """A collector that traces `server` only, or both ends of its connections."""
        filters = ["--port", str(server.port)] if both_ends else filters_of(sorted({server.running.pid, server.worker}))
        with Collector(self.folder, *filters, sink=sink, nice=self.nice) as collector:
            yield collector


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One load on server, traced or not."""

    load: Load
    server_us: float
    """Processor time of the worker per request."""
    collector_us: float = 0.0
    """Processor time of the collector per span, from the first request until it was idle."""
    collector_share: float = 0.0
    """Part of one processor that the collector took while the load lasted."""
    drain_seconds: float = 0.0
    """How long it was busy after the load had ended."""
    account: Account | None = None


def untraced(server: Server, opened: Opened) -> Run:
    """The worker's cost with nobody watching."""
    served = server.served()
    with opened as send:
        spent = machine.cpu_seconds([server.worker])
        done = send()
        spent = machine.cpu_seconds([server.worker]) - spent
        time.sleep(SETTLE_SECONDS)
        return Run(load=done, server_us=spent * 1e6 / (server.served() - served - done.first))


def traced(bench: Bench, server: Server, opened: Opened, *, sink: Sink | None, both_ends: bool = False) -> Run:
    """The same with a collector, from before the first connection until everything is exported."""
    with bench.collector(server, sink=sink, both_ends=both_ends) as collector:
        return watch(collector, server, opened, sink=sink, both_ends=both_ends, stacks=bench.stacks)


def watch(
    collector: Collector,
    server: Server,
    opened: Opened,
    *,
    sink: Sink | None,
    both_ends: bool = False,
    stacks: Path | None = None,
    before_end: Callable[[], None] = lambda: None,
) -> Run:
    """A load while `collector` is at work, and its end; `before_end` is called while it still lives."""
    tally = Tally(collector, server, sink, ends=2 if both_ends else 1)
    with opened as send:
        collector.wait_until_idle()
        server_spent, spent, begun = machine.cpu_seconds([server.worker]), collector.cpu_seconds(), time.monotonic()
        with profiled(collector.running.pid, stacks):
            done = send()
        server_spent = machine.cpu_seconds([server.worker]) - server_spent
        spent_meanwhile, lasted = collector.cpu_seconds() - spent, time.monotonic() - begun
        time.sleep(SETTLE_SECONDS)
        drained = collector.wait_until_idle()
        spent = collector.cpu_seconds() - spent
        before_end()
        told = tally.close(done.requests)
    return Run(
        load=done,
        server_us=server_spent * 1e6 / (told.served - done.first),
        collector_us=spent * 1e6 / max(told.spans - done.first * told.ends, 1),
        collector_share=spent_meanwhile / lasted,
        drain_seconds=drained,
        account=told,
    )


class Tally:
    """Counts on all sides from its making, while `collector` is ready and nothing happens, to `close`."""

    def __init__(self, collector: Collector, server: Server, sink: Sink | None, *, ends: int = 1) -> None:
        self._collector, self._server, self._sink, self._ends = collector, server, sink, ends
        self._arrived = sink.counts() if sink is not None else None
        self._served = server.served()

    def close(self, made: int) -> Account:
        """The account; ends the collector. `made` are the requests of the load."""
        # The requests that ask for the count, twice, are traced like all others, and each counts itself.
        served = self._server.served() - self._served + self._server.asks
        self._collector.wait_until_idle()
        ended = self._collector.end()
        arrived = self._sink.counts() - self._arrived if self._sink is not None and self._arrived is not None else None
        return account(
            made=made + 2 * self._server.asks,
            served=served,
            sheet=ended.sheet,
            metrics=ended.metrics,
            arrived=arrived,
            ends=self._ends,
        )


def accounts(runs: Mapping[str, list[Run]]) -> dict[str, list[Account]]:
    """The accounts of the runs that have one."""
    found = {name: [run.account for run in several if run.account] for name, several in runs.items()}
    return {name: several for name, several in found.items() if several}
