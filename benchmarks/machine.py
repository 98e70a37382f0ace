"""What the machine is, what its processes spent, and how much of it somebody else took while something was measured."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
OPEN_FILES = 1 << 16
"""What ten thousand connections need at both ends, and some room."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure is worth nothing without."""

    cpu: str
    processors: int
    memory_bytes: int
    kernel: str
    hypervisor: bool
    python: str
    load_average: tuple[float, float, float]


def describe() -> Machine:
    """This machine, now."""
    cpuinfo = dict(line.partition(":")[::2] for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines())
    named = {name.strip(): value.strip() for name, value in cpuinfo.items()}
    return Machine(
        cpu=named.get("model name", platform.machine()),
        processors=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        hypervisor="hypervisor" in named.get("flags", "").split(),
        python=platform.python_version(),
        load_average=os.getloadavg(),
    )


def raise_open_files() -> int:
    """Allow as many open files as ten thousand connections need, or as many as the host lets us; the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (OPEN_FILES, hard):
        if soft < limit:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            except (ValueError, OSError):  # more than the hard limit needs CAP_SYS_RESOURCE
                continue
            return limit
    return soft


def cpu_seconds(pids: Iterable[int]) -> float:
    """What the threads of these processes have spent, those that live now, to the nanosecond (`stat`, which also knows
    the ended ones, counts in ticks of 10 ms)."""
    total_ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


class Memory(msgspec.Struct, frozen=True):
    """Of all processes of a program, from smaps_rollup."""

    anonymous_bytes: int
    """What only this program has: heaps, stacks."""
    resident_bytes: int
    """With the pages of files and of the ring, which others may share."""


def memory(pids: Iterable[int]) -> Memory:
    """What these processes hold now."""
    found = {"Anonymous": 0, "Rss": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, value = line.partition(":")
            if name in found:
                found[name] += int(value.split()[0]) << 10
    return Memory(found["Anonymous"], found["Rss"])


@contextmanager
def bpf_stats() -> Iterator[None]:
    """The kernel counts the runs of BPF programs, and times them: that costs each of them some ten nanoseconds."""
    path = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = path.read_text()
    path.write_text("1")
    try:
        yield
    finally:
        path.write_text(before)


class Others:
    """How much of the machine was busy with what is none of the benchmark's, or stolen by the host of a guest.

    Interrupts that hit no process of ours count as others'; so a few per cent are the benchmark's own network traffic.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy, self._stolen = _machine_seconds()
        self._own = _own_seconds()

    def share(self) -> tuple[float, float]:
        """Since the start: (others', stolen) as parts of all processors' time."""
        busy, stolen = _machine_seconds()
        whole = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        foreign = busy - self._busy - (_own_seconds() - self._own)
        return max(foreign, 0.0) / whole, (stolen - self._stolen) / whole


def _machine_seconds() -> tuple[float, float]:
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND, steal / TICKS_PER_SECOND


def _own_seconds() -> float:
    """Of this process and all it started, the ended ones that were waited for included."""
    parents: dict[int, list[tuple[int, float]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended between the listing and now
                continue
            spent = sum(map(int, fields[11:15])) / TICKS_PER_SECOND
            parents.setdefault(int(fields[1]), []).append((int(entry), spent))
    me = os.times()
    total, family = sum(me[:4]), [os.getpid()]
    while family:
        for pid, spent in parents.get(family.pop(), []):
            total += spent
            family.append(pid)
    return total
