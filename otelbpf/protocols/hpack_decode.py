"""Header blocks of HPACK (RFC 7541 section 6): bytes in, the few fields a span can use out.

A block means what it says only together with the sender's table. A block that refers to nothing in the dynamic table
means the same on every connection, and inserts the same entries: both are remembered for all of them. What another one
means is remembered for as long as the table stays as it is. Clients and servers send the same blocks again and again.
"""

from __future__ import annotations

import functools
from typing import Final

from hpack.table import HeaderTable

from otelbpf.protocols.base import ProtocolError
from otelbpf.protocols.hpack_strings import CutError, integer, name_of, string, value_of
from otelbpf.protocols.hpack_table import ENTRY_OVERHEAD, STATIC_ENTRIES, Entry, Table
from otelbpf.protocols.http2_head import OWN, Head, read_head

_REMEMBERED: Final = 1024
_REMEMBERED_HERE: Final = 32
_LONGEST_REMEMBERED: Final = 1024

_NAMES: Final = ("", *(str(name, "ascii") for name, _ in HeaderTable.STATIC_TABLE))


class _Known:
    """What a block means whatever the dynamic table holds."""

    __slots__ = ("head", "inserted", "size")

    def __init__(self, head: Head, inserted: tuple[Entry, ...], size: int) -> None:
        self.head = head
        self.inserted = inserted
        """The entries it adds to the table, the newest last."""
        self.size = size
        """Of all of them."""


class _Wishes:
    """What all connections share whose wishes are the same."""

    __slots__ = ("blocks", "limit", "once", "static", "wanted")

    def __init__(self, wanted: frozenset[str], limit: int) -> None:
        self.wanted = wanted
        self.limit = limit
        self.static: list[Entry] = [
            (name, str(value, "ascii") if name in wanted else None, len(name) + len(value) + ENTRY_OVERHEAD)
            for name, (_, value) in zip(_NAMES, ((b"", b""), *HeaderTable.STATIC_TABLE), strict=True)
        ]
        self.blocks: dict[bytes, _Known] = {}
        self.once: set[int] = set()  # hashes of blocks that were seen: many, with an id in them, come only once

    def comes_again(self, block: bytes) -> bool:
        number = hash(block)
        if number in self.once:
            return True
        if len(self.once) >= _REMEMBERED:
            self.once.clear()
        self.once.add(number)
        return False


@functools.lru_cache(maxsize=8)
def _shared(wanted: frozenset[str], limit: int) -> _Wishes:
    return _Wishes(wanted, limit)


class Decoder:
    """Reads the blocks of one sender, all of them and in order."""

    __slots__ = ("_blocks", "_dynamic", "_inserted", "_resized", "_wishes", "table")

    def __init__(self, wanted: frozenset[str], *, limit: int, complete: bool) -> None:
        """`wanted`: lower-case names of the fields to keep beside `OWN`. `limit`: octets of fields that are kept of a
        block. `complete`: the sender has sent no block yet."""
        self.table = Table(complete=complete)
        self._wishes = _shared(wanted | OWN, limit)
        self._blocks: dict[bytes, Head] = {}
        # Of the block that is read:
        self._dynamic = False  # it refers to the dynamic table
        self._inserted: list[Entry] = []
        self._resized = False

    def decode(self, block: bytes) -> Head:
        """The next block. ProtocolError: it is none."""
        head = self._blocks.get(block)
        if head is not None:
            return head
        wishes = self._wishes
        known = wishes.blocks.get(block)
        if known is not None:
            if known.inserted:
                self._blocks.clear()
                self.table.extend(known.inserted, known.size)
            return known.head
        head, whole = self._read(block)
        if not whole:
            raise ProtocolError("a header block ends within a field")
        inserted = self._inserted
        if inserted or self._resized:
            self._blocks.clear()
        if len(block) > _LONGEST_REMEMBERED or self._resized or (self._dynamic and inserted):
            return head
        if wishes.comes_again(block):
            if self._dynamic:
                if len(self._blocks) >= _REMEMBERED_HERE:
                    self._blocks.clear()
                self._blocks[block] = head
            else:
                if len(wishes.blocks) >= _REMEMBERED:
                    wishes.blocks.clear()
                wishes.blocks[block] = _Known(head, tuple(inserted), sum([entry[2] for entry in inserted]))
        return head

    def decode_cut(self, block: bytes) -> Head:
        """The next block, of which only the beginning is there; what later blocks refer to is not known any more."""
        head, _ = self._read(block)
        head.beyond = True
        self.forget()
        return head

    def forget(self) -> None:
        """A block was missed."""
        self.table.forget()
        self._blocks.clear()

    def _read(self, block: bytes) -> tuple[Head, bool]:
        """What it says, and whether it ends with its last field; the table follows it."""
        static = self._wishes.static
        values: dict[str, str] = {}
        room = self._wishes.limit
        unnamed = False
        self._inserted = []
        self._dynamic = self._resized = False
        at, size = 0, len(block)
        updates = 0  # up to here there are nothing but size updates
        try:
            while at < size:
                byte = block[at]
                if 0x80 < byte <= 0xBD:  # 61 static entries
                    name, value, octets = static[byte - 0x80]
                    at += 1
                elif byte >= 0x80:
                    (name, value, octets), at = self._indexed(block, at)
                elif 0x20 <= byte < 0x40:
                    if at != updates:
                        raise ProtocolError("a size update behind a field")
                    at = updates = self._resize(block, at)
                    continue
                else:
                    name, value, octets, at = self._literal(block, at)
                if value is not None and name is not None:
                    room -= octets
                    if room >= 0:
                        _keep(values, name, value)
                elif name is None:
                    unnamed = True
        except CutError:
            return read_head(values, unnamed=unnamed, beyond=room < 0), False
        return read_head(values, unnamed=unnamed, beyond=room < 0), True

    def _indexed(self, block: bytes, at: int) -> tuple[Entry, int]:
        """Section 6.1."""
        index = block[at] & 0x7F
        if index == 0x7F:
            index, at = integer(block, at, 0x7F)
        else:
            at += 1
        self._dynamic = True
        return self.table.get(index), at

    def _literal(self, block: bytes, at: int) -> tuple[str | None, str | None, int, int]:
        """Section 6.2: what the entry has that it makes, or would make, and the index behind it."""
        byte = block[at]
        inserts = byte >= 0x40
        prefix = 0x3F if inserts else 0x0F
        index = byte & prefix
        if index == prefix:
            index, at = integer(block, at, prefix)
        else:
            at += 1
        name: str | None
        if not index:
            raw, huffman, at = string(block, at)
            name = name_of(raw, huffman)
        elif index <= STATIC_ENTRIES:
            name = _NAMES[index]
        else:
            self._dynamic = True
            name = self.table.get(index)[0]
        raw, huffman, at = string(block, at)
        wanted = name in self._wishes.wanted
        if not wanted and not inserts:
            return name, None, 0, at
        value, octets = value_of(raw, huffman)
        kept = value if wanted else None
        octets += ENTRY_OVERHEAD + (len(name) if name else 0)
        if inserts:
            self._inserted.append((name, kept, octets))
            self.table.insert(name, kept, octets)
        return name, kept, octets, at

    def _resize(self, block: bytes, at: int) -> int:
        """Section 6.3."""
        capacity = block[at] & 0x1F
        if capacity == 0x1F:
            capacity, behind = integer(block, at, 0x1F)
        else:
            behind = at + 1
        self._resized = True
        self.table.resize(capacity)
        return behind


def _keep(values: dict[str, str], name: str, value: str) -> None:
    known = values.get(name)
    if known is None:
        values[name] = value
    elif name[0] != ":":  # one that comes twice makes the message malformed (RFC 9113 section 8.3)
        values[name] = f"{known}{'; ' if name == 'cookie' else ', '}{value}"
