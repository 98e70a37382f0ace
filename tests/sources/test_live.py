"""Whom the live source introduces before any record tells of them. All else of it is tested with a kernel."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from otelbpf.events.decode import decode
from otelbpf.events.types import Identity
from otelbpf.sources.live import LiveSource
from otelbpf.sources.processes import describe

SECOND_NS = 1_000_000_000


def source(found: Identity) -> LiveSource:
    """One that finds this, whomever it is asked for."""
    made = LiveSource.__new__(LiveSource)

    def look(pid: int, started_ns: int, time_ns: int, *, comm: str, cgroup: int, forked_from: int) -> Identity:
        assert (started_ns, comm, cgroup, forked_from) == (0, "", 0, 0)  # nothing is known but the number
        return msgspec.structs.replace(found, pid=pid, time_ns=time_ns)

    made.__dict__["_describe"] = look
    return made


@pytest.mark.parametrize(
    ("later_ns", "executable", "told"),
    [
        (-SECOND_NS, "/usr/sbin/nginx", True),
        (0, "/usr/sbin/nginx", True),
        (SECOND_NS, "/usr/sbin/nginx", False),  # another process has got its number
        (-SECOND_NS, "", False),  # it has ended
    ],
)
@pytest.mark.parametrize("suspended_ns", [0, 3600 * SECOND_NS])
def test_who_began_after_it_was_seen_is_somebody_else(
    monkeypatch: pytest.MonkeyPatch, later_ns: int, executable: str, told: bool, suspended_ns: int
) -> None:
    """A process's start counts the time the host was suspended, the probes' clock does not."""
    monkeypatch.setattr(time, "monotonic_ns", lambda: 100 * SECOND_NS)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: 100 * SECOND_NS + suspended_ns)
    since_ns = 50 * SECOND_NS
    found = Identity(pid=0, started_ns=since_ns + suspended_ns + later_ns, time_ns=0, comm="n", executable=executable)

    records = list(source(found)._introduce(7, since_ns))

    assert [decode(record) for record in records] == [
        msgspec.structs.replace(found, pid=7, time_ns=100 * SECOND_NS)
    ] * told


def test_this_process_is_introduced_by_its_own_clock() -> None:
    """Nothing played: it began before now, and after this host did."""
    made = LiveSource.__new__(LiveSource)
    made.__dict__["_describe"] = describe

    (record,) = made._introduce(os.getpid(), time.monotonic_ns())

    identity = decode(record)
    assert isinstance(identity, Identity)
    assert identity.pid == os.getpid()
    assert list(made._introduce(os.getpid(), 0)) == []
