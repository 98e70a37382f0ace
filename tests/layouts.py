"""Asks C compilers whether a Python layout is that of a C struct: `_Static_assert`s about sizes and offsets."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

INCLUDE = Path(__file__).resolve().parent.parent / "probes" / "include"
COMPILERS = {
    "gcc": ["gcc", "-DOTELBPF_HOST"],
    "clang": ["clang", "-DOTELBPF_HOST"],
    "bpf": ["clang", "-target", "bpf", "-include", f"{INCLUDE}/headers/include/linux/types.h"],
}
_STRICT = ["-std=gnu11", "-Wall", "-Wpadded", "-Werror", "-fsyntax-only", "-x", "c", f"-I{INCLUDE}", "-"]

Fields = Sequence[tuple[str, str]]


def of_struct(name: str, *groups: tuple[str, Fields]) -> Iterator[str]:
    """That `struct name` consists of these fields and of nothing else. A group's prefix is the nested struct they
    are in: "header." """
    at = 0
    for prefix, fields in groups:
        for field, code in fields:
            size = struct.calcsize("<" + code)
            member = f"{prefix}{field}"
            yield f"__builtin_offsetof(struct {name}, {member}) == {at}"
            yield f"sizeof(((struct {name} *)0)->{member}) == {size}"
            at += size
    yield f"sizeof(struct {name}) == {at}"


def of_constants(**values: int) -> Iterator[str]:
    """That the header gives these names these values."""
    for name, value in values.items():
        yield f"{name} == {value}"


def compile_with(compiler: str, header: str, claims: Iterable[str]) -> str:
    """What the compiler says about `claims` behind `header`: nothing, when they hold."""
    command = COMPILERS[compiler]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}: the layouts of C and Python were not compared by it")
    text = "\n".join([f'#include "{header}"', *(f'_Static_assert({claim}, "{claim}");' for claim in claims)])
    return subprocess.run([*command, *_STRICT], input=text, text=True, capture_output=True, check=False).stderr
