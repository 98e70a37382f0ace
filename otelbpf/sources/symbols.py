"""Where the functions of files stand, remembered by build id: containers of many images have the same libraries."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import Final

from otelbpf.sources.elf import Program

_MAX_BUILDS: Final = 256


class Symbols:
    """Offsets of functions in files, by name."""

    def __init__(self, wanted: Collection[str], *, needed: Collection[str]) -> None:
        """`wanted` are those that are looked for; a file that has none of `needed` is of no use."""
        self._wanted = wanted
        self._needed = needed
        self._offsets: dict[str, dict[str, int]] = {}  # by build id

    def find(self, program: Program) -> dict[str, int]:
        """Those that a file has; empty where it is of no use."""
        build_id = program.build_id
        if build_id and build_id in self._offsets:
            return self._offsets[build_id]
        offsets = program.offsets(self._needed)
        if offsets:
            offsets = program.offsets(self._wanted)
        if build_id:
            if len(self._offsets) >= _MAX_BUILDS:
                self._offsets.clear()
            self._offsets[build_id] = offsets
        return offsets

    def read_ahead(self, paths: Iterable[str]) -> None:
        """Remember those of files that may be there; not while another thread finds any."""
        for path in paths:
            with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
                self.find(Program(file))
