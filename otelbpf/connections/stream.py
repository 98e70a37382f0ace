"""One direction of a connection: bytes in order, losses made explicit, times by offset.

Records carry their stream offset, so what was delivered before, what is next and what is missing is arithmetic.
Which record's turn it is, across both directions, is the connection's business.
"""

from __future__ import annotations

import bisect
from collections import Counter
from typing import Final

from otelbpf.connections.piece import Piece
from otelbpf.events.traffic import Data
from otelbpf.protocols.base import Gap
from otelbpf.telemetry.ledger import ByteAccount, Unseen
from otelbpf.values import replace


class Stream:
    """Delivers the bytes of one direction once each, and remembers when each offset was seen."""

    __slots__ = (
        "_ledger",
        "_marks",
        "_needed",
        "_newest",
        "_newest_ns",
        "_sent",
        "_waited",
        "end",
        "holes",
        "pid",
        "position",
    )

    def __init__(self, sent: bool, ledger: ByteAccount) -> None:
        self._sent = sent
        self._ledger = ledger
        self.position = 0
        """Offset of the next byte to be delivered."""
        self.end = -1
        """Offset behind the last byte, once the side has said that it sends no more."""
        self.holes = 0
        """Bytes skipped for which no reason is known yet."""
        self.pid = 0
        """Process of the newest record."""
        self._newest = 0  # offset at which the newest record began, its time, and its wait (see events.types.Data)
        self._newest_ns = 0
        self._waited = 0
        self._needed = 0  # times of offsets before this one will not be asked for
        # The same of the records before it that may be asked for, ascending. None where there is none: of thousands of
        # connections an empty list each is memory that every request has to fetch.
        self._marks: list[tuple[int, int, int]] | None = None

    @property
    def ended(self) -> bool:
        """Everything the side sent was delivered."""
        return 0 <= self.end <= self.position

    def take_whole(self, event: Data) -> bool:
        """Deliver a record that is next and lacks nothing: nearly all are. False leaves everything as it was."""
        size = event.length
        offset = event.offset
        if offset != self.position or len(event.data) != size:
            return False
        if self._needed < offset:
            self._keep_mark()
        self._newest = offset
        self._newest_ns = event.time_ns
        self._waited = event.waited
        self.pid = event.pid
        self.position = offset + size
        ledger = self._ledger
        ledger.kernel_bytes += size
        ledger.seen_bytes += size
        return True

    def deliver(self, event: Data) -> list[Piece]:
        """The pieces of a record that lies at `position` or begins before it; what was delivered before is left out."""
        skip = self.position - event.offset
        if skip:
            if skip >= event.length:
                return []
            event = _without_start(event, skip)
        if self.take_whole(event):
            return [Piece(self._sent, event.offset, event.data)]
        offset, data, length, tail = event.offset, event.data, event.length, event.tail
        # No hook tells of bytes that splice takes out of a socket: they show with the next call, perhaps of the next
        # request, seconds later. What came before them is the nearer time.
        late = event.flags >> 8 == _SENDFILE and not self._sent
        self._mark(offset, self._newest_ns or event.time_ns if late else event.time_ns, event.waited)
        self.pid = event.pid
        self.position = offset + length
        captured = len(data)
        missing = length - captured
        deliberate = event.flags >> 8 == _BUDGET
        if deliberate and len(tail) >= missing:
            # The tail reaches back to what was copied: nothing is missing.
            ledger = self._ledger
            ledger.kernel_bytes += length
            ledger.seen_bytes += length
            return [Piece(self._sent, offset, data + tail[len(tail) - missing :])]
        seen_tail = len(tail) if len(tail) <= missing else missing
        ledger = self._ledger
        ledger.kernel_bytes += length
        ledger.seen_bytes += captured + seen_tail
        if missing > seen_tail:
            ledger.unseen_bytes[_REASONS[event.flags >> 8]] += missing - seen_tail
        gap = Gap(missing, deliberate, tail if deliberate else b"", event.flags >> 8 == _KERNEL_TLS)
        behind = Piece(self._sent, offset + captured, b"", gap)
        return [Piece(self._sent, offset, data), behind] if captured else [behind]

    def skip_to(self, offset: int, time_ns: int) -> list[Piece]:
        """Give up the bytes before `offset`: they will not come."""
        size = offset - self.position
        if size <= 0:
            return []
        gap = Piece(self._sent, self.position, b"", Gap(size, deliberate=False))
        self._mark(self.position, time_ns, 0)
        self.position = offset
        self.holes += size
        self._ledger.kernel_bytes += size
        self._ledger.unseen_bytes[Unseen.HOLE] += size
        return [gap]

    def time_at(self, offset: int) -> int:
        """When the byte at `offset` was seen."""
        marks = self._marks
        if marks is None or offset >= self._newest:
            return self._newest_ns
        return marks[max(_behind(marks, offset) - 1, 0)][1]

    def waited_us_at(self, offset: int) -> int:
        """How long the byte at `offset` had lain in the socket when it was read; -1 where that is not known."""
        begin, waited, marks = self._newest, self._waited, self._marks
        if marks is not None and offset < begin:
            begin, _, waited = marks[max(_behind(marks, offset) - 1, 0)]
        if waited > 0:
            return waited - 1
        return -waited - 1 if waited and offset == begin else -1

    def forget(self, offset: int) -> None:
        """Nobody will ask for the time of anything before `offset` again."""
        self._needed = offset
        marks = self._marks
        if marks is None:
            return
        if offset >= self._newest:
            self._marks = None
        else:
            keep = _behind(marks, offset) - 1
            if keep > 0:
                del marks[:keep]

    def _mark(self, offset: int, time_ns: int, waited: int) -> None:
        if self._needed < offset:
            self._keep_mark()
        self._newest = offset
        self._newest_ns = time_ns
        self._waited = waited

    def _keep_mark(self) -> None:
        mark = (self._newest, self._newest_ns, self._waited)
        if self._marks is None:
            self._marks = [mark]
        else:
            self._marks.append(mark)


def _behind(marks: list[tuple[int, int, int]], offset: int) -> int:
    """How many of them begin at `offset` or before."""
    return bisect.bisect_right(marks, (offset, _NEVER, 0))


def _without_start(event: Data, skip: int) -> Data:
    length = event.length - skip
    return replace(
        event,
        offset=event.offset + skip,
        length=length,
        data=event.data[skip:],
        tail=event.tail[-length:] if len(event.tail) > length else event.tail,
        waited=max(event.waited, 0),
    )


def explain_holes(
    ledger: ByteAccount, holes: int, *, muted: int, ring_full: int, muted_as: Unseen = Unseen.MUTED
) -> None:
    """Move bytes counted as holes to the reasons the kernel gave for them when the connection ended."""
    if not holes:
        return
    moved: Counter[Unseen] = Counter()
    for reason, size in ((muted_as, muted), (Unseen.RING_FULL, ring_full)):
        part = min(holes - moved.total(), size)
        if part > 0:
            moved[reason] += part
    if moved:
        ledger.unseen_bytes[Unseen.HOLE] -= moved.total()
        ledger.unseen_bytes.update(moved)


_NEVER: Final = 1 << 62
_BUDGET: Final = 1
_SENDFILE: Final = 2
_KERNEL_TLS: Final = 8
_REASONS: Final = (
    Unseen.HOLE,
    Unseen.BEYOND_BUDGET,
    Unseen.SENDFILE,
    Unseen.IO_URING,
    Unseen.SYSCALL,
    Unseen.SEGMENTS,
    Unseen.FAULT,
    Unseen.TRUNC,
    Unseen.KERNEL_TLS,
)
"""By events.wire.Unseen, as it stands in the upper byte of a data record's flags."""
