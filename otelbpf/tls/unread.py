"""Programs whose TLS cannot be read are named, once each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from otelbpf.events.types import Identity

MAX_NAMED: Final = 256
"""Those named longest ago are forgotten, and named again when they are met again."""


class Unread:
    """Tells of a process when it is the first of its program in its container: many may come and go that run it."""

    def __init__(self, tell: Callable[[Identity], None], identity_of: Callable[[int], Identity]) -> None:
        self._tell = tell
        self._identity_of = identity_of
        self._named: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __call__(self, pid: int) -> None:
        if not pid:
            return
        identity = self._identity_of(pid)
        key = (identity.executable or identity.comm or str(pid), identity.container_id)
        if key in self._named:
            self._named.move_to_end(key)
            return
        self._named[key] = None
        if len(self._named) > MAX_NAMED:
            self._named.popitem(last=False)
        self._tell(identity)
