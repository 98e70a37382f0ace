"""What the collector itself costs: its processor time and memory, from /proc/self."""

from __future__ import annotations

from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """The process's own consumption."""

    cpu_seconds: float
    resident_bytes: int
    """All pages in memory, shared ones and mapped files included."""
    anonymous_bytes: int
    """Pages that belong to this process alone: what it really costs."""


def usage(status: Path = Path("/proc/self/status")) -> Usage:
    """As of now; sizes are 0 where /proc does not tell (proc_pid_status(5))."""
    times = getrusage(RUSAGE_SELF)
    sizes = {"VmRSS": 0, "RssAnon": 0}
    try:
        lines = status.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return Usage(times.ru_utime + times.ru_stime, sizes["VmRSS"], sizes["RssAnon"])
