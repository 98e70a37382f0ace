"""Processes that speak TCP and have a TLS library that cannot be read, as far as their programs show it: what `doctor`
can say before anything is traced. While tracing, those that do speak TLS are met by their handshakes.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

import msgspec

from otelbpf.sources.elf import Program
from otelbpf.sources.listeners import find_speakers
from otelbpf.sources.targets import CARRIERS, names_library

_MARKS: Final = (
    (b"crypto/tls.(*Conn)", "Go crypto/tls"),
    (b"rustls", "rustls"),
    (b"BoringSSL", "BoringSSL without symbols"),
    (b"part of OpenSSL 1.1.", "OpenSSL without symbols"),
    (b"part of OpenSSL 3.", "OpenSSL without symbols"),
    (b"OPENSSL_ia32cap", "OpenSSL without symbols"),
)
"""What stands in a program that has such a library within it."""
_JAVA: Final = "/libjvm.so"
_MAX_FILES: Final = 512
"""Programs that are looked through."""


class Unreadable(msgspec.Struct, frozen=True):
    """A program, and the processes that run it."""

    executable: str
    library: str
    pids: tuple[int, ...]


def find_unreadable(proc: Path = Path("/proc"), *, but: int = 0) -> list[Unreadable]:
    """By program; process `but` never. What may not be read, or ends meanwhile, is passed over."""
    found: dict[tuple[str, str], list[int]] = {}
    looked: dict[tuple[int, int], str] = {}
    for pid in find_speakers(proc):
        executable, library = ("", "") if pid == but else _library(proc / str(pid), looked)
        if library:
            found.setdefault((executable, library), []).append(pid)
    return [Unreadable(*key, pids=tuple(pids)) for key, pids in sorted(found.items())]


def _library(folder: Path, looked: dict[tuple[int, int], str]) -> tuple[str, str]:
    """A process's program, and its library that cannot be read; empty where it has none, or one that can."""
    try:
        executable = os.readlink(folder / "exe")
        lines = (folder / "maps").read_text("utf-8", "replace").splitlines()
        names = {line.split(maxsplit=5)[-1].strip() for line in lines}
        if any(name.endswith(_JAVA) for name in names):
            return executable, "Java JSSE"
        if any(names_library(name) for name in names):
            return executable, ""
        status = os.stat(folder / "exe")
        key = (status.st_dev, status.st_ino)
        if key not in looked and len(looked) < _MAX_FILES:
            looked[key] = _within(folder / "exe")
        return executable, looked.get(key, "")
    except (OSError, ValueError):
        return "", ""


def _within(path: Path) -> str:
    with path.open("rb") as file:
        if Program(file).offsets(CARRIERS):
            return ""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return next((library for mark, library in _MARKS if content.find(mark) >= 0), "")
