"""Processes whose TLS cannot be read are named, once each."""

from __future__ import annotations

from collections.abc import Callable

from otelbpf.events.types import Identity

MAX_NAMED = 256


class Unread:
    """Tells of such a process when it is met for the first time; bounded, since every host may have many."""

    def __init__(self, tell: Callable[[Identity], None], identity_of: Callable[[int], Identity]) -> None:
        self._tell = tell
        self._identity_of = identity_of
        self._named: set[int] = set()

    def __call__(self, pid: int) -> None:
        if pid and pid not in self._named and len(self._named) < MAX_NAMED:
            self._named.add(pid)
            self._tell(self._identity_of(pid))
