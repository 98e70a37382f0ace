"""What is given up is gone, and what is kept stays: tried in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otelbpf.sources import privileges

SCRIPT = """
from otelbpf.sources import privileges
privileges.drop_privileges()
print(privileges.effective())
print(open("/proc/self/status").read())
"""

NOT_AS_ROOT = """
import os
from otelbpf.sources import privileges
def told():
    return os.geteuid(), privileges.effective(), privileges._libc.prctl(27, 0, 0, 0, 0)
print(*told())
with privileges.not_as_root():
    print(*told())
print(*told())
"""


def run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ).stdout


def from_status(text: str, name: str) -> int:
    (line,) = (line for line in text.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1], 16)


def test_the_kernel_says_the_same() -> None:
    assert privileges.effective() == from_status(Path("/proc/self/status").read_text(), "CapEff")


def test_only_what_is_needed_is_kept() -> None:
    before = privileges.effective()
    kept = sum(1 << capability for capability in privileges.KEPT)

    told, status = run(SCRIPT).split("\n", 1)

    assert int(told) == before & kept
    assert from_status(status, "CapPrm") == from_status(status, "CapEff") == before & kept
    assert from_status(status, "CapInh") == 0
    assert from_status(status, "NoNewPrivs") == 1


@pytest.mark.parametrize(
    ("held", "suffices", "added"),
    [
        ({privileges.BPF, privileges.SYS_ADMIN}, False, ()),
        ({privileges.SYS_ADMIN}, True, ()),
        ({privileges.SYS_ADMIN}, False, (privileges.SYS_ADMIN,)),
        ({privileges.BPF}, False, ()),
    ],
)
def test_sys_admin_is_kept_only_where_it_stands_for_bpf(
    monkeypatch: pytest.MonkeyPatch, held: set[int], suffices: bool, added: tuple[int, ...]
) -> None:
    """It is tried on a thread that has nothing else."""
    dropped: list[tuple[tuple[int, ...], int]] = []
    monkeypatch.setattr(privileges, "has", lambda capability: capability in held)
    monkeypatch.setattr(privileges, "drop_privileges", lambda kept: dropped.append((kept, threading.get_ident())))

    kept = privileges.what_to_keep(privileges.KEPT, suffices=lambda: suffices)

    assert kept == (*privileges.KEPT, *added)
    tried = privileges.BPF not in held
    assert [given for given, _ in dropped] == [privileges.KEPT] * tried
    assert threading.get_ident() not in [thread for _, thread in dropped]


def test_nobody_for_a_while_has_every_capability() -> None:
    """Where this is not root, or may not change that, nothing happens."""
    before, meanwhile, after = (line.split() for line in run(NOT_AS_ROOT).splitlines())

    assert before == after
    assert meanwhile[1] == before[1]
    setuid_and_setpcap = 1 << 7 | 1 << 8
    if before[0] == "0" and int(before[1]) & setuid_and_setpcap == setuid_and_setpcap:
        assert meanwhile[0] != "0"
    else:
        assert meanwhile == before
