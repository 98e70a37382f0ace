"""What is remembered of files by their build id; programs are made of Python here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from otelbpf.sources import symbols
from otelbpf.sources.elf import Program
from otelbpf.sources.symbols import Symbols


class Played(Program):
    """Has what it is told to have, and counts how often it is asked."""

    def __init__(self, build_id: str, **functions: int) -> None:
        self._id = build_id
        self._functions = functions
        self.asked = 0

    @property
    def build_id(self) -> str:
        return self._id

    def offsets(self, names: Collection[str]) -> dict[str, int]:
        self.asked += 1
        return {name: at for name, at in self._functions.items() if name in names}


def test_one_build_is_read_once() -> None:
    known = Symbols(("read", "write", "free"), needed=("read",))
    first, same, another = Played("a", read=1, free=2), Played("a"), Played("b", write=3)

    assert known.find(first) == known.find(same) == {"read": 1, "free": 2}
    assert known.find(another) == {}  # nothing that is needed
    assert (first.asked, same.asked, another.asked) == (2, 0, 1)


def test_without_a_build_id_nothing_is_remembered() -> None:
    known = Symbols(("read",), needed=("read",))

    assert known.find(Played("", read=1)) == {"read": 1}
    assert known.find(Played("", read=2)) == {"read": 2}


def test_no_more_builds_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(symbols.__dict__, "_MAX_BUILDS", 2)
    known = Symbols(("read",), needed=("read",))
    for build_id in "abc":
        known.find(Played(build_id, read=1))
    again = Played("a", read=1)
    known.find(again)

    assert again.asked == 2


def test_files_that_are_not_there_or_no_programs_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no program")
    found: list[Program] = []
    known = Symbols(("read",), needed=("read",))
    monkeypatch.setattr(known, "find", found.append)

    known.read_ahead([str(tmp_path / "none"), str(tmp_path / "text"), "/proc/self/exe"])

    assert len(found) == 1
