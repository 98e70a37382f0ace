"""Which processes are traced, where the kernel cannot tell by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from otelbpf.events.types import Identity


def matcher(globs: Sequence[str]) -> Callable[[Identity], bool] | None:
    """Whether a process's executable is one of those asked for; None when all are."""
    if not globs:
        return None

    def matches(process: Identity) -> bool:
        return any(fnmatchcase(process.executable, glob) for glob in globs)

    return matches
