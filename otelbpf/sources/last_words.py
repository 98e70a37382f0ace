"""The ends of sockets that the ring will not tell: there was no room, or they had not come when the source ended."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import Final

from otelbpf.sources import maps
from otelbpf.sources.ring import Ring
from otelbpf.sources.sockets import ENTRY, SocketEntry, last_word

_KEY: Final = struct.Struct("<QQ")
_MAX_ENTRIES: Final = 1 << 23
"""Far more than any table has: a bound for the walk over one that changes meanwhile."""


class LastWords:
    """State records made of the probes' tables `sockets` and `untold`, each behind the records of its socket that still
    lie in the ring."""

    def __init__(self, sockets: int, untold: int, ring: Ring) -> None:
        self._sockets = sockets
        self._untold = untold
        self._ring = ring
        self._lost = 0
        self._waiting: list[tuple[int, list[bytes]]] = []

    def look(self, lost: int) -> None:
        """Take over what the ring had no room for; `lost` counts the state records that found none, ever."""
        if lost != self._lost:
            self._lost = lost
            words = list(self._take_untold())
            # Whatever was told of those sockets was written by now.
            self._waiting.append((self._ring.written_to, words))

    def due(self) -> list[bytes]:
        """What is to follow the records read so far."""
        words: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= self._ring.read_to:
            words += self._waiting.pop(0)[1]
        return words

    def at_end(self) -> Iterator[bytes]:
        """Everything that is left, once nothing runs any more and the ring is empty."""
        for _, words in self._waiting:
            yield from words
        self._waiting = []
        yield from self._take_untold()
        now_ns = time.monotonic_ns()
        for key in list(maps.keys(self._sockets, 8, limit=_MAX_ENTRIES)):
            if value := maps.lookup(self._sockets, key, ENTRY.size):
                entry = SocketEntry.parse(value)
                if entry.to_be_told:
                    yield last_word(int.from_bytes(key, "little"), entry, time_ns=now_ns)

    def _take_untold(self) -> Iterator[bytes]:
        for key in list(maps.keys(self._untold, _KEY.size, limit=_MAX_ENTRIES)):
            if value := maps.lookup(self._untold, key, ENTRY.size):
                maps.delete(self._untold, key)
                yield last_word(_KEY.unpack(key)[0], SocketEntry.parse(value), time_ns=0)
