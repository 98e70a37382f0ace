"""What a live source is told of the libraries, whatever becomes of the helper and of the programs."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbpf.errors import KernelError
from otelbpf.sources import libraries
from otelbpf.sources.libraries import Libraries
from otelbpf.sources.targets import HOOKS
from tests.sources.test_targets import LIBRARY, compiled

PROGRAMS = {name: 0 for hook in HOOKS.values() for name in (hook.entry, hook.leaving)}


class FakeUprober:
    """Attaches nothing, but says so."""

    def __init__(self) -> None:
        self.attached = 0
        self.closed = 0

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        self.attached += 1
        return self.attached

    def release(self, event: int) -> None:
        self.attached -= 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def uprober(monkeypatch: pytest.MonkeyPatch) -> FakeUprober:
    made = FakeUprober()
    monkeypatch.setitem(libraries.__dict__, "Uprober", lambda: made)
    return made


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Path]:
    """A library that this process has mapped."""
    path = compiled(tmp_path / "libssl.so.3", LIBRARY, "-shared", "-fPIC")
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    yield path
    mapped.close()


def make() -> Libraries:
    return Libraries(hold=lambda _: None, tell=lambda _path, _pid: None)


def test_a_library_that_is_mapped_gets_probes(uprober: FakeUprober, loaded: Path) -> None:
    found = make()
    assert (found.possible, found.attached) == (True, 0)
    found.look(os.getpid())  # nothing to attach as yet
    found.attach(PROGRAMS, refused="")
    found.look(os.getpid())

    assert found.attached >= 1
    assert uprober.attached >= 5
    assert found.refused == ""
    found.close()


def test_without_programs_it_says_why(uprober: FakeUprober) -> None:
    found = make()
    found.attach({}, refused="too many instructions")
    found.look(os.getpid())
    found.look_again(1 << 62)

    assert (found.refused, found.attached, uprober.attached) == ("too many instructions", 0, 0)


def test_given_up_it_lets_the_helper_go(uprober: FakeUprober) -> None:
    found = make()
    found.give_up("the kernel refuses")
    found.attach(PROGRAMS, refused="")

    assert (found.possible, found.refused, found.attached) == (False, "the kernel refuses", 0)
    assert uprober.closed


@pytest.mark.parametrize("error", [KernelError("no uprobes", "none"), FileNotFoundError(2, "no uprobes")])
def test_without_the_helper_it_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setitem(libraries.__dict__, "Uprober", refuse)
    found = make()
    found.attach(PROGRAMS, refused="")

    assert "no uprobes" in found.refused
    assert (found.possible, found.attached) == (False, 0)
    found.close()
