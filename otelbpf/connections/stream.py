"""One direction of a connection: bytes in order, losses made explicit, times by offset.

Records carry their stream offset, so order is a matter of arithmetic: what lies before `position` was delivered, what
lies behind waits until the bytes between arrive or it is clear that they never will.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence

import msgspec

from otelbpf.events.types import Data
from otelbpf.protocols.base import Gap
from otelbpf.telemetry.ledger import Ledger, Unseen

REORDER_WINDOW_NS = 50_000_000
"""How long a hole may wait for its bytes. Two CPUs write to the ring within microseconds of each other; packet
captures reorder by a round trip."""
MAX_WAITING = 256
"""Records that may wait behind a hole."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Bytes as one system call had them, or a gap, at a stream offset."""

    offset: int
    data: bytes
    gap: Gap | None = None


class Stream:
    """Orders the records of one direction and remembers when each offset was seen."""

    __slots__ = ("_ledger", "_marks", "_times", "_waiting", "end", "holes", "pid", "position")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.position = 0
        """Offset of the next byte to be delivered."""
        self.end = -1
        """Offset behind the last byte, once the side has said that it sends no more."""
        self.holes = 0
        """Bytes skipped for which no reason is known yet."""
        self.pid = 0
        """Process of the newest record."""
        self._waiting: list[Data] = []
        self._marks: list[int] = []  # offsets at which another time begins, ascending
        self._times: list[int] = []

    def add(self, event: Data) -> Sequence[Piece]:
        """Take a record; return what is now in order."""
        offset, length = event.offset, event.length
        if offset == self.position and not self._waiting:
            self._mark(offset, event.time_ns)
            self.pid = event.pid
            return self._deliver(event)
        if offset + length <= self.position:
            return ()  # a retransmission, wholly delivered already
        bisect.insort(self._waiting, event, key=_offset)
        pieces = self._drain()
        if len(self._waiting) > MAX_WAITING:
            pieces += self._skip()
        return pieces

    def overdue(self, now_ns: int) -> Sequence[Piece]:
        """Give up the holes that have waited longer than the reorder window."""
        pieces: list[Piece] = []
        while self._waiting and now_ns - min(event.time_ns for event in self._waiting) > REORDER_WINDOW_NS:
            pieces += self._skip()
        return pieces

    def flush(self) -> Sequence[Piece]:
        """Give up every hole: nothing more will come."""
        pieces: list[Piece] = []
        while self._waiting:
            pieces += self._skip()
        return pieces

    @property
    def waits(self) -> bool:
        """Records wait behind a hole."""
        return bool(self._waiting)

    @property
    def ended(self) -> bool:
        """Everything the side sent was delivered."""
        return 0 <= self.end <= self.position

    def time_at(self, offset: int) -> int:
        """When the byte at `offset` was seen."""
        times = self._times
        if len(times) == 1:
            return times[0]
        return times[max(bisect.bisect_right(self._marks, offset) - 1, 0)]

    def forget(self, offset: int) -> None:
        """Nobody will ask for the time of anything before `offset` again."""
        keep = bisect.bisect_right(self._marks, offset) - 1
        if keep > 0:
            del self._marks[:keep], self._times[:keep]

    def _mark(self, offset: int, time_ns: int) -> None:
        marks = self._marks
        if not marks or offset > marks[-1]:
            marks.append(offset)
            self._times.append(time_ns)

    def _drain(self) -> list[Piece]:
        pieces: list[Piece] = []
        waiting = self._waiting
        while waiting and waiting[0].offset <= self.position:
            event = waiting.pop(0)
            skip = self.position - event.offset
            if skip < event.length:
                self._mark(self.position, event.time_ns)
                self.pid = event.pid
                pieces += self._deliver(event if skip == 0 else _without_start(event, skip))
        return pieces

    def _skip(self) -> list[Piece]:
        """Turn the hole before the first waiting record into a gap."""
        first = self._waiting[0]
        size = first.offset - self.position
        gap = Piece(self.position, b"", Gap(size, deliberate=False))
        self._mark(self.position, first.time_ns)
        self.position += size
        self.holes += size
        self._ledger.kernel_bytes += size
        self._ledger.unseen_bytes[Unseen.HOLE] += size
        return [gap, *self._drain()]

    def _deliver(self, event: Data) -> list[Piece]:
        """Deliver a record that lies exactly at `position`."""
        offset, data, length = event.offset, event.data, event.length
        ledger = self._ledger
        ledger.kernel_bytes += length
        self.position = offset + length
        captured = len(data)
        if captured == length:
            ledger.seen_bytes += length
            return [Piece(offset, data)]
        tail = event.tail
        missing = length - captured
        seen_tail = len(tail) if len(tail) <= missing else missing
        ledger.seen_bytes += captured + seen_tail
        ledger.unseen_bytes[_REASONS[event.flags >> 8]] += missing - seen_tail
        deliberate = event.flags >> 8 == _BUDGET
        gap = Piece(offset + captured, b"", Gap(missing, deliberate, tail if deliberate else b""))
        return [Piece(offset, data), gap] if captured else [gap]


def _offset(event: Data) -> int:
    return event.offset


def _without_start(event: Data, skip: int) -> Data:
    length = event.length - skip
    return msgspec.structs.replace(
        event,
        offset=event.offset + skip,
        length=length,
        data=event.data[skip:],
        tail=event.tail[-length:] if len(event.tail) > length else event.tail,
    )


def explain_holes(ledger: Ledger, holes: int, *, muted: int, ring_full: int, muted_as: Unseen = Unseen.MUTED) -> None:
    """Move bytes counted as holes to the reasons the kernel gave for them when the connection ended."""
    moved: Counter[Unseen] = Counter()
    for reason, size in ((muted_as, muted), (Unseen.RING_FULL, ring_full)):
        part = min(holes - moved.total(), size)
        if part > 0:
            moved[reason] += part
    ledger.unseen_bytes[Unseen.HOLE] -= moved.total()
    ledger.unseen_bytes.update(moved)


_BUDGET = 1
_REASONS = (
    Unseen.HOLE,
    Unseen.BEYOND_BUDGET,
    Unseen.SENDFILE,
    Unseen.IO_URING,
    Unseen.SYSCALL,
    Unseen.SEGMENTS,
    Unseen.FAULT,
    Unseen.TRUNC,
)
"""By events.wire.Unseen, as it stands in the upper byte of a data record's flags."""
