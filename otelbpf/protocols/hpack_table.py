"""The dynamic table of HPACK (RFC 7541 section 2.3.2), as far as a listener can know it.

What one sender's blocks insert is known only from where the listener joined, or from behind the last block it missed.
Indices count from the newest entry, so what was inserted since is found by them whatever lies behind it: the entries
here are always the newest ones of the sender's table, or all of them and some it has evicted already, which it will
never refer to. An index beyond them is unknown, or, where the whole table is known, an error.

Why no value is ever wrong:

- Every insertion that was seen is made here, so the newest entry is the sender's newest one. One that this table has no
  room for empties it, because the sender's may have had room.
- Entries leave from the oldest end only, here as there, so that none changes its index.
- After a block that was not seen whole nothing is known (`forget`): how many entries it inserted would shift all
  others.

How large the sender's table is follows from its size updates alone (section 6.3): a sender that adopts a new
SETTINGS_HEADER_TABLE_SIZE must say so in its next block. What the settings allow is not enforced: that is the peer's
matter, and the frame that allows a size may reach a listener after the block that uses it. They help where the size is
not known: entries are then kept as if it were what the settings allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hpack.table import HeaderTable

from otelbpf.protocols.base import ProtocolError

DEFAULT_CAPACITY: Final = 4096
"""RFC 9113 section 6.5.2."""
MOST_KEPT: Final = 65536
"""Octets of a table that are kept, whatever its capacity; browsers allow this much and no more."""

STATIC_ENTRIES: Final = len(HeaderTable.STATIC_TABLE)
ENTRY_OVERHEAD: Final = 32
"""RFC 7541 section 4.1."""

Entry = tuple[str | None, str | None, int]
"""Name, None where it is not known; value, None where it is not known or not wanted; size."""


class Table:
    """The newest entries of one sender's dynamic table."""

    __slots__ = ("_capacity", "_exact", "_size", "complete", "entries")

    def __init__(self, *, complete: bool) -> None:
        """`complete`: the connection is seen from its first byte."""
        self.entries: list[Entry] = []
        """The newest last: that of index 62 is the last one."""
        self.complete = complete
        """There is no entry that is not known of."""
        self._capacity = DEFAULT_CAPACITY
        self._exact = complete  # the capacity is known
        self._size = 0

    def __repr__(self) -> str:
        return f"<Table {len(self.entries)} entries{'' if self.complete else ' and unknown ones'}>"

    def get(self, index: int) -> Entry:
        """The entry at an index of the dynamic table. ProtocolError: there is none."""
        at = index - STATIC_ENTRIES
        if 0 < at <= len(self.entries):
            return self.entries[-at]
        if self.complete or at <= 0:
            raise ProtocolError(f"no entry has index {index}")
        return None, None, 0

    def insert(self, name: str | None, value: str | None, size: int) -> None:
        """A field with a literal value was added. An entry whose name is not known is larger than `size`, so the sender
        evicts sooner than this table."""
        self.entries.append((name, value, size))
        self._size += size
        if self._size > self._capacity:
            self._evict()

    def extend(self, entries: Sequence[Entry], size: int) -> None:
        """Several fields were added, of `size` in all. To evict once, behind the last of them, leaves what evicting
        behind each leaves: the newest entries that fit."""
        self.entries.extend(entries)
        self._size += size
        if self._size > self._capacity:
            self._evict()

    def resize(self, capacity: int) -> None:
        """The sender has set the size of its table."""
        self._exact = capacity <= MOST_KEPT
        self._capacity = min(capacity, MOST_KEPT)
        if not capacity:
            self.complete = True
            self.entries.clear()
            self._size = 0
        elif self._size > self._capacity:
            self._evict()

    def allow(self, capacity: int) -> None:
        """The settings of the other side allow a size; see above."""
        if not self._exact:
            self._capacity = max(self._capacity, min(capacity, MOST_KEPT))

    def forget(self) -> None:
        """A block was missed, wholly or in part."""
        self.entries.clear()
        self._size = 0
        self.complete = False
        self._exact = False

    def _evict(self) -> None:
        """The oldest entries go until the rest fits. Where the sender's table is known to be no larger than this one,
        what is older than they are went before them: nothing unknown is left."""
        size = self._size
        count = 0
        for entry in self.entries:
            size -= entry[2]
            count += 1
            if size <= self._capacity:
                break
        del self.entries[:count]
        self._size = size
        self.complete = self._exact
