"""What is compiled: all that stands in the way of a request, but the modules that mypyc would take the meaning of."""

from __future__ import annotations

from pathlib import Path

import hatch_build

ROOT = Path(__file__).parents[1]


def test_what_is_left_as_python_is_known_by_name() -> None:
    """A struct that is put beside a parser would take it off the list, and nobody would notice but by the cost."""
    within = {path for pattern in hatch_build.COMPILED for path in (ROOT / "otelbpf").glob(pattern)}
    left = within - {ROOT / path for path in hatch_build.compilable(ROOT)}
    assert sorted(str(path.relative_to(ROOT / "otelbpf")) for path in left if path.name != "__init__.py") == [
        "metrics/options.py",
        "metrics/points.py",
        "tls/handshake.py",
        "tracing/options.py",
    ]


def test_every_pattern_names_something() -> None:
    """A module that was moved is noticed."""
    assert all(list((ROOT / "otelbpf").glob(pattern)) for pattern in hatch_build.COMPILED)
