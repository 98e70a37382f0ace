"""Finds the socket of plain text whose application moves the ciphertext itself (memory BIOs: asyncio, node).

Such a program hands n bytes to its library and then sends, on the same thread, a record whose length is n and what the
cipher adds; or receives a record and then gets n bytes from the library. A match counts only where no other plain text
and no other socket would match as well: of that thread, nor of the process's others, because where threads hand work to
each other (.NET's Kestrel does) one may send what another one encrypted. Contradictions take everything back.

Of a record that is sent, all plain text it could be made of is known, so one match will do where the cipher is known,
and with it the very length. Of records that are received some may not have been copied, and the cipher of a connection
that was open before is not known: there it takes two matches, each alone among its neighbours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeVar

from otelbpf.connections.connection import Connection

_Value = TypeVar("_Value")
NEEDED: Final = 2
"""What matches must weigh before a socket is believed."""
_MAX_THREADS: Final = 4096
_MAX_OPEN: Final = 32
"""Connections of a thread of which something awaits its match."""
_MAX_RIVALS: Final = 1024
"""Sessions of a process whose socket is not known and whose plain text is remembered."""
_FULL: Final = 16_384
"""Longer plain text goes in several records; one of this length says nothing, for all are."""
_OVERHEADS: Final = (17, 24, 16)
"""TLS 1.3 (content type and tag), TLS 1.2 with AES-GCM (nonce and tag), with ChaCha20-Poly1305 (tag)."""


def overheads(version: str, cipher: str) -> tuple[int, ...]:
    """What a record is longer than its plain text; all that can be where it is not known, none where it varies."""
    if not version:
        return _OVERHEADS
    if "CCM_8" in cipher:
        return ()
    if version == "1.3":
        return (17,)
    if "GCM" in cipher or cipher.endswith("CCM"):
        return (24,)
    return (16,) if "CHACHA20" in cipher else ()


class _Thread:
    __slots__ = ("received", "written")

    def __init__(self) -> None:
        self.written: OrderedDict[bytes, tuple[Connection, list[int]]] = OrderedDict()
        """Plain text given to the library that was not found among what was sent: by session, the lengths of its
        records."""
        self.received: OrderedDict[bytes, tuple[Connection, list[int], tuple[int, ...]]] = OrderedDict()
        """Records received of which the plain text has not come yet: by socket, lengths and what may be added."""


class _Process:
    __slots__ = ("threads", "written")

    def __init__(self) -> None:
        self.threads: dict[int, _Thread] = {}
        self.written: OrderedDict[bytes, tuple[Connection, list[int]]] = OrderedDict()
        """The same of all threads together, in the order it was written, whether it was found since or not."""


class Carriers:
    """Counts matches between plain text and sockets that have not found each other."""

    def __init__(self) -> None:
        self._threads: OrderedDict[tuple[int, int], _Thread] = OrderedDict()
        self._processes: dict[int, _Process] = {}
        self._matches: dict[bytes, tuple[Connection, int]] = {}
        """By session: the socket, and what its matches weigh."""

    def wrote(self, pid: int, tid: int, plain: Connection, length: int) -> None:
        """Plain text was given to the library."""
        whole, rest = divmod(length, _FULL)
        more = [_FULL] * min(whole, _MAX_OPEN) + ([rest] if rest else [])
        thread = self._thread(pid, tid)
        _, by_thread = _remember(thread.written, plain.key, (plain, []), _MAX_OPEN)
        _, by_all = _remember(self._processes[pid].written, plain.key, (plain, []), _MAX_RIVALS)
        by_thread += more
        by_all += more
        del by_thread[:-_MAX_OPEN], by_all[:-_MAX_OPEN]

    def sent(
        self, pid: int, tid: int, carrier: Connection, records: Sequence[int], added: Sequence[int]
    ) -> Connection | None:
        """A socket sent records; the plain text that is known to be its own by now."""
        written = self._thread(pid, tid).written
        if not written or not records:
            return None
        found = [(plain, lengths) for plain, lengths in written.values() if _agree(lengths, records, added)]
        if len(found) != 1:
            return None
        plain, lengths = found[0]
        ends = [[record - more for record in records[-len(lengths) :]] for more in added]
        for other, others in self._processes[pid].written.values():
            if other is not plain and any(_lies_in(end, others) for end in ends):
                return None
        del written[plain.key]
        return self._match(plain, carrier, NEEDED if len(added) == 1 else 1)

    def received(self, pid: int, tid: int, carrier: Connection, records: Sequence[int], added: tuple[int, ...]) -> None:
        """A socket received records."""
        if records and added:
            _, lengths, _ = _remember(self._thread(pid, tid).received, carrier.key, (carrier, [], added), _MAX_OPEN)
            lengths += records[:_MAX_OPEN]
            del lengths[:-_MAX_OPEN]

    def read(self, pid: int, tid: int, plain: Connection, length: int) -> Connection | None:
        """Plain text was taken from the library; the socket that is known to carry it by now."""
        waiting = self._thread(pid, tid).received
        if not waiting or length >= _FULL:
            return None
        found = [
            (carrier, length + more, lengths)
            for carrier, lengths, added in waiting.values()
            for more in added
            if length + more in lengths
        ]
        if len(found) != 1:
            return None
        carrier, record, lengths = found[0]
        for thread in self._processes[pid].threads.values():
            for other, others, more in thread.received.values():
                if other is not carrier and any(length + one in others for one in more):
                    return None
        lengths.remove(record)
        return carrier if self._match(plain, carrier, 1) is not None else None

    def forget(self, connection: Connection) -> None:
        """It has found its other half, or is over."""
        key = connection.key
        self._matches.pop(key, None)
        for thread in self._threads.values():
            thread.written.pop(key, None)
            thread.received.pop(key, None)
        for process in self._processes.values():
            process.written.pop(key, None)

    def _match(self, plain: Connection, carrier: Connection, weight: int) -> Connection | None:
        known = self._matches.get(plain.key)
        if known is not None and known[0] is not carrier:
            del self._matches[plain.key]
            return None
        weight += 0 if known is None else known[1]
        self._matches[plain.key] = (carrier, weight)
        return plain if weight >= NEEDED else None

    def _thread(self, pid: int, tid: int) -> _Thread:
        thread = self._threads.get((pid, tid))
        if thread is None:
            if len(self._threads) >= _MAX_THREADS:
                (old_pid, old_tid), _ = self._threads.popitem(last=False)
                old = self._processes[old_pid].threads
                del old[old_tid]
                if not old:
                    del self._processes[old_pid]
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = _Process()
            thread = self._threads[pid, tid] = process.threads[tid] = _Thread()
        return thread


def _remember(table: OrderedDict[bytes, _Value], key: bytes, fresh: _Value, most: int) -> _Value:
    known = table.get(key)
    if known is None:
        if len(table) >= most:
            table.popitem(last=False)
        known = table[key] = fresh
    return known


def _agree(lengths: Sequence[int], records: Sequence[int], added: Sequence[int]) -> bool:
    """Whether the newest records are those of this plain text, and say something: tickets may stand before them."""
    if not any(length != _FULL for length in lengths[: len(records)]):
        return False
    return any([length + more for length in lengths] == list(records[-len(lengths) :]) for more in added)


def _lies_in(part: list[int], lengths: list[int]) -> bool:
    """Whether it is some of that, in a row: plain text whose records were not told from others' is still among it."""
    size = len(part)
    return part[-1] in lengths and any(lengths[at : at + size] == part for at in range(len(lengths) - size + 1))
