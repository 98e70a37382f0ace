"""Processor time per service, from what its processes have come to."""

from __future__ import annotations

import pytest

from otelbpf.events.encode import encode_usage
from otelbpf.events.types import Usage
from otelbpf.metrics.histogram import Histogram
from tests.fake_kernel import FakeKernel
from tests.metrics.reading import Row, row, values

STOCK = row("stock")
SECOND = 1_000_000_000


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.process(100, "/bin/stock")
    kernel.process(101, "/bin/stock")
    return kernel


def read(kernel: FakeKernel, name: str) -> dict[Row, int | float | Histogram]:
    return values(kernel.pipeline.measures.snapshot(), name)


def tell(kernel: FakeKernel, pid: int, *, started: int = 5, **numbers: int) -> None:
    kernel.put(encode_usage(Usage(pid=pid, started=started, time_ns=kernel.tick(), cgroup="/a", **numbers)))


def test_what_has_grown_since_the_first_look_counts(kernel: FakeKernel) -> None:
    for pid in (100, 101):
        tell(kernel, pid, user_ns=7 * SECOND, system_ns=SECOND, delayed_ns=0)
    assert read(kernel, "otelbpf.process.cpu.delay") == {STOCK: 0}
    for pid in (100, 101):
        tell(kernel, pid, user_ns=10 * SECOND, system_ns=2 * SECOND, delayed_ns=SECOND // 4)

    assert read(kernel, "process.cpu.time") == {row("stock", cpu_mode="user"): 6, row("stock", cpu_mode="system"): 2}
    assert read(kernel, "otelbpf.process.cpu.delay") == {STOCK: 0.5}


def test_a_process_that_takes_the_number_of_another_takes_nothing_away(kernel: FakeKernel) -> None:
    tell(kernel, 100, user_ns=7 * SECOND)
    tell(kernel, 100, user_ns=9 * SECOND)
    tell(kernel, 100, started=6, user_ns=SECOND)
    tell(kernel, 100, started=6, user_ns=2 * SECOND)

    assert read(kernel, "process.cpu.time")[row("stock", cpu_mode="user")] == 3


def test_what_a_cgroup_was_denied_counts_once_for_a_service(kernel: FakeKernel) -> None:
    for times in (1, 2):
        for pid in (100, 101):
            tell(kernel, pid, throttled_periods=5 * times, throttled_ns=SECOND * times)

    assert read(kernel, "otelbpf.cgroup.cpu.throttled.periods") == {STOCK: 5}
    assert read(kernel, "otelbpf.cgroup.cpu.throttled.duration") == {STOCK: 1}


def test_a_delay_that_is_not_known_of_all_is_not_told(kernel: FakeKernel) -> None:
    for _ in range(2):
        tell(kernel, 100, delayed_ns=SECOND)
        tell(kernel, 101, delayed_ns=-1)

    assert read(kernel, "otelbpf.process.cpu.delay") == {}


def test_processes_that_were_not_asked_for_are_left_out() -> None:
    kernel = FakeKernel(traced=lambda identity: False)
    kernel.process(100, "/bin/stock")
    tell(kernel, 100)

    assert read(kernel, "process.cpu.time") == {}
