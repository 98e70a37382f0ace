"""What processes have come to, read from a /proc and a cgroup tree made for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from otelbpf.events.decode import decode
from otelbpf.events.types import Refusals, Usage
from otelbpf.sources.usage import INTERVAL_NS, MAX_PROCESSES, Watch

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Host:
    """Processes and cgroups as files."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        self.watch = Watch(self.proc, self.groups)
        self.now_ns = 0

    def process(self, pid: int, *, user: int = 0, system: int = 0, started: int = 5, group: str = "/a/b") -> None:
        folder = self.proc / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stat").write_text(f"{pid} (a ) b) S 1 {'0 ' * 9}{user} {system} {'0 ' * 6}{started} 0 0\n")
        (folder / "cgroup").write_text(f"1:cpu:/x\n0::{group}\n")
        (folder / "task").mkdir(exist_ok=True)
        (folder / "ns").mkdir(exist_ok=True)
        (folder / "net").mkdir(exist_ok=True)
        (folder / "ns" / "net").touch()
        self.refuse(pid, 0, 0)

    def refuse(self, pid: int, overflows: int, drops: int) -> None:
        text = f"TcpExt: Other ListenOverflows ListenDrops\nTcpExt: 4 {overflows} {drops}\nIpExt: A\nIpExt: 1\n"
        (self.proc / str(pid) / "net" / "netstat").write_text(text)

    def thread(self, pid: int, thread: int, delayed_ns: int) -> None:
        folder = self.proc / str(pid) / "task" / str(thread)
        folder.mkdir(exist_ok=True)
        (folder / "schedstat").write_text(f"123 {delayed_ns} 7\n")

    def throttle(self, group: str, periods: int, microseconds: int) -> None:
        folder = self.groups / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.stat").write_text(f"usage_usec 9\nnr_throttled {periods}\nthrottled_usec {microseconds}\n")

    def look(self, *, after_ns: int = INTERVAL_NS) -> list[Usage]:
        self.now_ns += after_ns
        events = [decode(record) for record in self.watch.look(self.now_ns)]
        self.refused = [event for event in events if isinstance(event, Refusals)]
        return [event for event in events if isinstance(event, Usage)]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_processor_time_of_a_process(host: Host) -> None:
    host.process(7, user=300, system=20)
    host.watch.add(7)
    (usage,) = host.look()

    assert (usage.pid, usage.started, usage.cgroup) == (7, 5, "/a/b")
    assert (usage.user_ns, usage.system_ns) == (300 * TICK_NS, 20 * TICK_NS)


def test_what_threads_waited_grows_though_threads_come_and_go(host: Host) -> None:
    host.process(7)
    host.watch.add(7)
    host.thread(7, 7, 1000)
    host.thread(7, 8, 5000)
    assert [usage.delayed_ns for usage in host.look()] == [0]
    host.thread(7, 7, 1500)
    shutil.rmtree(host.proc / "7" / "task" / "8")
    host.thread(7, 9, 40)
    assert [usage.delayed_ns for usage in host.look()] == [540]
    host.thread(7, 9, 41)
    assert [usage.delayed_ns for usage in host.look()] == [541]


def test_of_too_many_threads_it_is_not_known(host: Host) -> None:
    host.process(7)
    host.watch.add(7)
    for thread in range(257):
        host.thread(7, thread, 1000)
    assert [usage.delayed_ns for usage in host.look()] == [-1]
    for thread in range(10):
        shutil.rmtree(host.proc / "7" / "task" / str(thread))
    assert [usage.delayed_ns for usage in host.look()] == [0]


def test_a_kernel_that_does_not_count_waits(host: Host) -> None:
    host.process(7)
    (host.proc / "7" / "task" / "7").mkdir()
    host.watch.add(7)

    assert [usage.delayed_ns for usage in host.look()] == [-1]


def test_limits_of_the_cgroups_above_count_too(host: Host) -> None:
    host.process(7)
    host.watch.add(7)
    host.throttle("a", 3, 1000)
    host.throttle("a/b", 4, 20)

    (usage,) = host.look()
    assert (usage.throttled_periods, usage.throttled_ns) == (7, 1_020_000)


@pytest.mark.parametrize("group", ["/../other", ""])
def test_a_cgroup_that_is_not_below_the_root_is_left_alone(host: Host, group: str) -> None:
    host.process(7, group=group)
    host.throttle("", 3, 1000)
    host.watch.add(7)

    (usage,) = host.look()
    assert (usage.throttled_periods, usage.throttled_ns) == (0, 0)


def test_each_process_has_its_turn_once_in_an_interval(host: Host) -> None:
    for pid in range(1, 101):
        host.process(pid)
        host.watch.add(pid)
    turns = [len(host.look(after_ns=INTERVAL_NS // 10)) for _ in range(12)]

    assert turns[-12:] == [64, 36, 0, 0, 0, 0, 0, 0, 0, 0, 64, 36]


def test_what_a_network_namespace_had_no_room_for_is_told_once(host: Host) -> None:
    for pid in (7, 8, 9):
        host.process(pid)
        host.watch.add(pid)
    shared = host.proc / "8" / "ns" / "net"
    shared.unlink()
    os.link(host.proc / "7" / "ns" / "net", shared)
    host.refuse(7, 3, 5)
    host.look()

    first, second = ((host.proc / pid / "ns" / "net").stat().st_ino for pid in ("7", "9"))
    assert host.refused == [
        Refusals(namespace=first, time_ns=INTERVAL_NS, overflows=3, drops=5),
        Refusals(namespace=second, time_ns=INTERVAL_NS),
    ]


def test_who_has_ended_is_forgotten(host: Host) -> None:
    host.process(7)
    host.watch.add(7)
    host.watch.add(8)
    assert [usage.pid for usage in host.look()] == [7]
    shutil.rmtree(host.proc / "7")
    assert host.look() == []
    host.process(7)
    assert host.look() == []


def test_another_process_of_the_same_number_begins_anew(host: Host) -> None:
    host.process(7, started=5)
    host.thread(7, 7, 1000)
    host.watch.add(7)
    host.look()
    host.thread(7, 7, 1700)
    assert [usage.delayed_ns for usage in host.look()] == [700]
    host.process(7, started=6)
    host.thread(7, 7, 9)

    assert [(usage.started, usage.delayed_ns) for usage in host.look()] == [(6, 0)]


def test_the_oldest_gives_way(host: Host) -> None:
    host.process(1)
    for pid in range(1, MAX_PROCESSES + 2):
        host.watch.add(pid)

    assert host.look() == []


def test_this_process_on_this_host() -> None:
    watch = Watch()
    watch.add(os.getpid())
    usage, refusals = (decode(record) for record in watch.look(INTERVAL_NS))

    assert isinstance(usage, Usage)
    assert isinstance(refusals, Refusals)
    assert refusals.namespace == os.stat("/proc/self/ns/net").st_ino
    assert refusals.drops >= refusals.overflows
    used = os.times()
    assert 0 < usage.user_ns + usage.system_ns <= (used.user + used.system) * 1e9 + TICK_NS
