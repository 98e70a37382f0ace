"""A collector that is killed leaves nothing in the kernel, and the next one sees all there is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import struct
from pathlib import Path

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import wait_for

SYS_BPF = 321  # x86-64
BY_ID = {"prog_id": 13, "map_id": 14, "link_id": 30}
"""BPF_PROG_GET_FD_BY_ID and its like, by the word in /proc/PID/fdinfo."""
_libc = ctypes.CDLL(None, use_errno=True)


def held(pids: list[int]) -> set[tuple[str, int]]:
    """What of BPF these processes hold: programs, maps, links, by their numbers."""
    found = set()
    for pid in pids:
        for told in Path(f"/proc/{pid}/fdinfo").iterdir():
            found |= {(kind, int(number)) for kind, number in re.findall(r"^(\w+_id):\t(\d+)$", told.read_text(), re.M)}
    return {(kind, number) for kind, number in found if kind in BY_ID}


def is_there(kind: str, number: int) -> bool:
    """Whether the kernel still has it."""
    attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 128)
    descriptor = _libc.syscall(SYS_BPF, BY_ID[kind], attributes, 128)
    if descriptor >= 0:
        os.close(descriptor)
    return bool(descriptor >= 0)


def holders(one: tuple[str, int]) -> list[str]:
    """The processes that hold it still."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if one in held([int(process.name)]):
                found.append(process.joinpath("cmdline").read_text().replace("\0", " "))
    return found


def test_a_killed_collector_leaves_nothing(tier: str, folder: Path, run: str) -> None:
    """Nothing of it is pinned, so programs, maps and links go with the last descriptor: its own, and its helper's."""
    server = servers.start("go", folder)
    killed = Collector(folder, tier=tier, ports=[server.port], tls=True).ready()
    left = held(sorted(killed.running.family()))
    assert {kind for kind, _ in left} >= {"prog_id", "map_id"}
    assert all(is_there(*one) for one in left)
    os.kill(killed.running.pid, signal.SIGKILL)
    wait_for(
        "everything to go",
        lambda: not any(is_there(*one) for one in left),
        within_seconds=30,
        otherwise=lambda: [(*one, holders(one)) for one in sorted(left) if is_there(*one)],
    )

    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("go", app_plan(run, base_url("v4", server.port), 23, agent="go"), folder)
    truth.assert_equal(expect.both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_balanced()
