"""What processors a traced process used, waited for and was denied: /proc/PID/stat, schedstat of its threads (proc(5)),
cpu.stat of its cgroups (cgroup v2); and what its network namespace had no room for (net/netstat). Small files, each
once in ten seconds, a bounded number of them.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otelbpf.events.encode import encode_refusals, encode_usage
from otelbpf.events.types import Refusals, Usage
from otelbpf.sources.cgroups import cgroup_root

INTERVAL_NS: Final = 10_000_000_000
MAX_PROCESSES: Final = 1024
"""Beyond it the process that was met the longest ago is not looked at any more."""
_AT_ONCE: Final = 64
"""Processes in one look: a millisecond or two."""
_MAX_THREADS: Final = 256
"""Of a process with more it is not told how long they waited: a part would look like the whole."""
_MAX_DEPTH: Final = 16
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class _Watched:
    """A process, and what its threads had waited when they were looked at last."""

    __slots__ = ("delayed_ns", "looked_ns", "started", "threads")

    def __init__(self) -> None:
        self.started = b""
        self.looked_ns = -INTERVAL_NS
        self.delayed_ns = 0
        self.threads: dict[str, int] = {}


class Watch:
    """The processes that are looked at."""

    def __init__(self, proc: Path = Path("/proc"), cgroups: Path | None = None) -> None:
        self._proc = proc
        self._cgroups = cgroups or cgroup_root()
        self._watched: OrderedDict[int, _Watched] = OrderedDict()
        self._namespaces: OrderedDict[int, int] = OrderedDict()

    def add(self, pid: int) -> None:
        """Look at this process from now on."""
        if pid not in self._watched:
            self._watched[pid] = _Watched()
            if len(self._watched) > MAX_PROCESSES:
                self._watched.popitem(last=False)

    def look(self, now_ns: int) -> Iterator[bytes]:
        """A record for each process whose turn it is, and one for each network namespace that they are in."""
        due = [pid for pid, known in self._watched.items() if now_ns - known.looked_ns >= INTERVAL_NS]
        throttled: dict[str, tuple[int, int]] = {}
        for pid in due[:_AT_ONCE]:
            try:
                yield encode_usage(self._read(pid, self._watched[pid], now_ns, throttled))
            except (OSError, ValueError, IndexError):  # it has ended, and may have done so while it was read
                del self._watched[pid]
                continue
            with contextlib.suppress(OSError, ValueError, KeyError):
                yield from self._refusals(self._proc / str(pid), now_ns)

    def _read(self, pid: int, known: _Watched, now_ns: int, throttled: dict[str, tuple[int, int]]) -> Usage:
        folder = self._proc / str(pid)
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        if known.started != fields[19]:
            known.threads, known.delayed_ns = {}, 0  # another process of that number
        known.started, known.looked_ns = fields[19], now_ns
        group = _unified(folder / "cgroup")
        if group not in throttled:
            throttled[group] = self._throttled(group)
        return Usage(
            time_ns=now_ns,
            pid=pid,
            started=int(fields[19]),
            user_ns=int(fields[11]) * _TICK_NS,
            system_ns=int(fields[12]) * _TICK_NS,
            delayed_ns=_delayed(folder / "task", known),
            cgroup=group,
            throttled_periods=throttled[group][0],
            throttled_ns=throttled[group][1],
        )

    def _refusals(self, folder: Path, now_ns: int) -> Iterator[bytes]:
        namespace = (folder / "ns" / "net").stat().st_ino
        if now_ns - self._namespaces.get(namespace, -INTERVAL_NS) < INTERVAL_NS:
            return
        lines = (folder / "net" / "netstat").read_text().splitlines()
        self._namespaces[namespace] = now_ns
        self._namespaces.move_to_end(namespace)
        if len(self._namespaces) > MAX_PROCESSES:
            self._namespaces.popitem(last=False)
        names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
        told = dict(zip(names, values, strict=True))
        yield encode_refusals(
            Refusals(
                namespace=namespace,
                time_ns=now_ns,
                overflows=int(told["ListenOverflows"]),
                drops=int(told["ListenDrops"]),
            )
        )

    def _throttled(self, group: str) -> tuple[int, int]:
        """Periods in which this cgroup, or one above it, had used up what it may use, and nanoseconds spent so."""
        periods = spent_us = 0
        if self._cgroups is None or not group or ".." in group.split("/"):
            return 0, 0
        parts = group.strip("/").split("/")[:_MAX_DEPTH]
        for depth in range(len(parts)):
            with contextlib.suppress(OSError, ValueError):
                text = (self._cgroups.joinpath(*parts[: depth + 1]) / "cpu.stat").read_text()
                told = dict(line.split() for line in text.splitlines())
                periods += int(told.get("nr_throttled", 0))
                spent_us += int(told.get("throttled_usec", 0))
        return periods, spent_us * 1000


def _unified(path: Path) -> str:
    """The path of a process's cgroup in the hierarchy of version 2."""
    for line in path.read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    return ""


def _delayed(folder: Path, known: _Watched) -> int:
    """How long its threads have waited to be run since the first look; -1 where that is not known. A thread that
    ends takes its last seconds with it."""
    threads = os.listdir(folder)
    if len(threads) > _MAX_THREADS:
        known.threads = {}
        return -1
    now: dict[str, int] = {}
    for thread in threads:
        with contextlib.suppress(OSError, ValueError, IndexError):
            now[thread] = int((folder / thread / "schedstat").read_bytes().split()[1])
    if not now:
        return -1  # a kernel without CONFIG_SCHED_INFO
    before, known.threads = known.threads, now
    if before:
        known.delayed_ns += sum(max(waited - before.get(thread, 0), 0) for thread, waited in now.items())
    return known.delayed_ns
