"""Both directions of a TCP connection, put in an order in which its ends could have seen them.

A segment waits while bytes of its own direction before it, or bytes of the other direction that it acknowledges, are
still to come. So reordering, duplicates and overlaps leave no trace, and an answer never precedes its question. What
never comes is given up and becomes a step with its length and no bytes.
"""

from __future__ import annotations

import bisect
from typing import Final

import msgspec

from otelbpf.sources.segments import FIN, RST, Segment

MAX_HELD_SEGMENTS: Final = 4096
"""What one connection may hold back, about a large TCP window."""
PATIENCE_SEGMENTS: Final = 64
PATIENCE_NS: Final = 1_000_000_000
"""Bytes that their receiver has acknowledged were on the wire before: the file lacks them, or has them a little later.
Bytes not yet acknowledged will be sent again, and are waited for as long as there is room."""
_MAX_WINDOW: Final = 1 << 30  # RFC 7323 section 2.3
_LONGEST_HOLE: Final = 1 << 31  # a record's length has 32 bits


class Step(msgspec.Struct, frozen=True, gc=False):
    """What comes next of one side: bytes at an offset (`data` shorter than `length`: not in the file), FIN or RST."""

    side: int
    time_ns: int
    offset: int
    length: int
    data: bytes
    flag: int
    """FIN, RST, or 0 for bytes."""


class Budget:
    """Bytes that may be held back, over all connections."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def full(self) -> bool:
        """Nothing more should be held back."""
        return self.used > self.limit


class _Held(msgspec.Struct, frozen=True, gc=False):
    """A segment whose turn has not come; offsets are from the first byte of each direction."""

    offset: int
    needs: int
    """How far the other direction must have come."""
    length: int
    data: bytes
    flags: int
    time_ns: int
    order: int


class Direction:
    """How far one side's bytes have come."""

    __slots__ = ("_claimed", "acknowledged", "base", "ended", "held", "next", "time_ns")

    def __init__(self) -> None:
        self.base: int | None = None
        """Sequence number of the byte at offset 0."""
        self.next = 0
        """Offset behind the bytes that have had their turn."""
        self.ended = False
        """Its FIN had its turn; a FIN takes a sequence number of its own."""
        self.acknowledged = 0
        """Highest offset its receiver acknowledged, a FIN included."""
        self.held: list[_Held] = []
        self.time_ns = 0
        self._claimed = 0

    @property
    def end(self) -> int:
        """`next`, a FIN included."""
        return self.next + self.ended

    @property
    def reached(self) -> int:
        """How far it need not be waited for any more."""
        return max(self.next + self.ended, self._claimed)

    def claim(self, offset: int) -> None:
        """Somebody speaks of bytes behind the FIN, which cannot be; wait for them no more."""
        self._claimed = max(self._claimed, offset)

    @property
    def front(self) -> int:
        """How far the direction is known to have come on the wire."""
        return max(self.next, self.acknowledged)

    def offset_of(self, sequence: int) -> int:
        """Offset of a sequence number: of all that it can mean, the one nearest to the front."""
        distance = (sequence - (self.base or 0) - self.front) & 0xFFFFFFFF
        return self.front + (distance if distance < 1 << 31 else distance - (1 << 32))


class Reassembly:
    """Takes segments of side 0 and side 1 as they were captured, returns steps."""

    __slots__ = ("_budget", "_now_ns", "_order", "_stalled", "_stalled_since_ns", "directions")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.directions = (Direction(), Direction())
        self._now_ns = 0
        self._order = 0
        self._stalled = 0
        self._stalled_since_ns = 0

    def take(self, side: int, segment: Segment) -> list[Step]:
        """A segment behind the handshake."""
        own, other = self.directions[side], self.directions[1 - side]
        self._now_ns = segment.time_ns
        needs = 0
        if segment.acknowledged >= 0:
            if other.base is None:
                other.base = segment.acknowledged
            needs = other.offset_of(segment.acknowledged)
            if abs(needs - other.front) > _MAX_WINDOW:
                return []  # acknowledges what cannot have been sent: of another connection, or forged
            other.acknowledged = max(other.acknowledged, needs)
        if not segment.length and not segment.flags & (FIN | RST):
            return self._release()
        if own.base is None:
            own.base = segment.sequence
        offset = own.offset_of(segment.sequence)
        if offset == own.next and not own.held and needs <= other.reached and not segment.flags & (FIN | RST):
            return self._in_order(side, own, segment)
        self._hold(own, offset, needs, segment)
        return self._release()

    def flush(self) -> list[Step]:
        """Nothing more will come: everything held has its turn; what was acknowledged but never seen is given up."""
        steps = self._release(giving_up=True)
        for side, own in enumerate(self.directions):
            # One more than was seen is rather a FIN that the file lacks than a byte.
            if own.acknowledged > own.reached + 1:
                steps += self._fill(side, own.acknowledged, own.time_ns)
        return steps

    def drop(self) -> None:
        """The connection is over: what is held has no place any more."""
        for own in self.directions:
            self._budget.used -= sum(_cost(held.data) for held in own.held)
            own.held.clear()

    def _in_order(self, side: int, own: Direction, segment: Segment) -> list[Step]:
        if own.ended:
            return []
        own.next += segment.length
        own.time_ns = max(own.time_ns, segment.time_ns)
        step = Step(side, own.time_ns, own.next - segment.length, segment.length, segment.data, 0)
        return [step, *self._release()]

    def _hold(self, own: Direction, offset: int, needs: int, segment: Segment) -> None:
        if abs(offset - own.front) > _MAX_WINDOW:
            return
        length = segment.length
        if segment.flags & RST:
            # A reset counts only where the peer expects the next byte (RFC 5961 section 3.2): an older one is stale.
            if offset < min(own.acknowledged, own.next):
                return
            offset, length = max(offset, own.reached), 0
        elif offset + length + bool(segment.flags & FIN) <= own.reached:
            return  # wholly known
        self._order += 1
        self._budget.used += _cost(segment.data)
        flags = segment.flags & (FIN | RST)
        bisect.insort(
            own.held,
            _Held(offset, needs, length, segment.data, flags, segment.time_ns, self._order),
            key=_place,
        )

    def _release(self, *, giving_up: bool = False) -> list[Step]:
        steps: list[Step] = []
        while self.directions[0].held or self.directions[1].held:
            side = self._turn()
            if side is not None:
                steps += self._deliver(side)
            elif giving_up or self._impatient():
                self._stalled = 0
                steps += self._give_up()
            else:
                return steps
        self._stalled = 0
        return steps

    def _turn(self) -> int | None:
        """The side whose first held segment waits for nothing."""
        for side, own in enumerate(self.directions):
            other = self.directions[1 - side]
            if own.held and own.held[0].offset <= own.reached and own.held[0].needs <= other.reached:
                return side
        return None

    def _deliver(self, side: int) -> list[Step]:
        own = self.directions[side]
        held = own.held.pop(0)
        self._budget.used -= _cost(held.data)
        # Bytes behind a hole reach an application when the hole is filled, not before.
        own.time_ns = max(own.time_ns, held.time_ns)
        if held.flags & RST:
            return [Step(side, own.time_ns, own.next, 0, b"", RST)]
        steps: list[Step] = []
        skip = own.next - held.offset
        if skip < held.length and not own.ended:
            steps.append(Step(side, own.time_ns, own.next, held.length - skip, held.data[skip:], 0))
            own.next += held.length - skip
        if held.flags & FIN and not own.ended and held.offset + held.length == own.next:
            own.ended = True
            steps.append(Step(side, own.time_ns, own.next, 0, b"", FIN))
        return steps

    def _give_up(self) -> list[Step]:
        """Fill the hole that the oldest of the first held segments waits for."""
        first = [(own.held[0], side) for side, own in enumerate(self.directions) if own.held]
        holes = [(held, side) for held, side in first if held.offset > self.directions[side].reached]
        held, side = min(holes or first, key=lambda entry: entry[0].order)
        if holes:
            return self._fill(side, held.offset, held.time_ns)
        other = self.directions[1 - side]
        if held.flags and not other.ended and held.needs == other.reached + 1:
            # Who closes or resets has acknowledged one more than was seen: the other's FIN, which the file lacks.
            other.ended = True
            return [Step(1 - side, max(other.time_ns, held.time_ns), other.next, 0, b"", FIN)]
        return self._fill(1 - side, held.needs, held.time_ns)

    def _fill(self, side: int, offset: int, time_ns: int) -> list[Step]:
        own = self.directions[side]
        if own.ended:
            own.claim(offset)
            return []
        own.time_ns = max(own.time_ns, time_ns)
        steps: list[Step] = []
        while own.next < offset:
            length = min(offset - own.next, _LONGEST_HOLE)
            steps.append(Step(side, own.time_ns, own.next, length, b"", 0))
            own.next += length
        return steps

    def _impatient(self) -> bool:
        waiting = [own for own in self.directions if own.held]
        if self._budget.full or sum(len(own.held) for own in waiting) > MAX_HELD_SEGMENTS:
            return True
        if not any(own.held[0].offset <= own.reached or own.reached < own.acknowledged for own in waiting):
            self._stalled = 0
            return False
        if not self._stalled:
            self._stalled_since_ns = self._now_ns
        self._stalled += 1
        return self._stalled > PATIENCE_SEGMENTS or self._now_ns - self._stalled_since_ns > PATIENCE_NS


def _place(held: _Held) -> tuple[int, int]:
    return held.offset, held.order


def _cost(data: bytes) -> int:
    """What holding a segment takes of the budget: a segment without bytes is not free."""
    return len(data) + 256
