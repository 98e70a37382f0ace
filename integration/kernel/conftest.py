"""One worker process that is traced, and one source for each set of options a module asks for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from integration.kernel import workload
from integration.kernel.recorder import Recorder

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def worker() -> Iterator[ProcessPoolExecutor]:
    """The process that does the work: not this one, which the probes leave alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(workload.hold, "warm up").result()
        pool.submit(workload.let_go, "warm up").result()
        yield pool


@pytest.fixture(scope="module")
def do(worker: ProcessPoolExecutor) -> Run:
    """Run a function of the workload there."""

    def do(function: Callable[..., Any], *arguments: Any) -> Any:
        return worker.submit(function, *arguments).result()

    return do


@pytest.fixture(scope="package")
def recorders() -> Iterator[dict[str, Recorder]]:
    """Those without filters, by tier: compiling takes its time where the processor is emulated. They end with this
    folder's tests: they keep every record of the host, gigabytes of them under the loads that follow."""
    made: dict[str, Recorder] = {}
    yield made
    for recorder in made.values():
        recorder.close()


@pytest.fixture
def recorder(tier: str, recorders: dict[str, Recorder], do: Run) -> Recorder:
    """A source without filters, running since some test before asked for it."""
    if tier not in recorders:
        recorders[tier] = Recorder(tier=tier)
    return recorders[tier]
