"""Cgroups of the version 2 hierarchy, by which a collector tells a test's processes from all others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness.processes import wait_for

_OWN = "otelbpf-test-"


def hierarchy() -> Path:
    """Wherever it is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"]
    if not roots:
        pytest.skip("no cgroup2 hierarchy is mounted here")
    return roots[0]


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """One more, below the root."""
    group = hierarchy() / name
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


@contextlib.contextmanager
def of_tests() -> Iterator[Path]:
    """One in which tests may be `alone`, one after the other."""
    group = hierarchy() / f"{_OWN}{os.getpid()}"
    group.mkdir(exist_ok=True)  # a run that was killed may have left it, and the number come round
    try:
        yield group
    finally:
        # What the last collector left takes its uprobes away for some seconds more.
        wait_for("the last process of the tests", lambda: _remove(group), within_seconds=60)


@contextlib.contextmanager
def alone(group: Path) -> Iterator[None]:
    """This process, and all it starts meanwhile, in that cgroup."""
    before = hierarchy() / _path().lstrip("/")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


def _remove(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def own_group() -> Path | None:
    """That of `alone`; None outside."""
    path = _path()
    return hierarchy() / path.lstrip("/") if path.startswith("/" + _OWN) else None


def _path() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
