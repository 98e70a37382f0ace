"""One TCP connection as its segments tell it: who serves, and the records that the server's socket would have made."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from otelbpf.events.encode import encode_data, encode_endpoints, encode_key, encode_state
from otelbpf.events.wire import Flag, TcpState, Unseen
from otelbpf.sources.reassembly import Budget, Reassembly, Step
from otelbpf.sources.segments import ACK, FIN, RST, SYN, Segment

MAX_UNDECIDED: Final = 16
"""Steps that are looked at for the beginning of a message, where no handshake tells the server."""
_NEAR: Final = 1 << 20
_ECONNRESET: Final = 104
_ECONNREFUSED: Final = 111

# A request line (RFC 9112 section 3), the preface of HTTP/2, or a request line too long for its segment.
_REQUEST: Final = re.compile(
    rb"[!#-'*+\-.0-9A-Z^-z|~]{1,32} [^\x00-\x20]+ HTTP/(?:1\.[01]\r?\n|2\.0\r\n\r\nSM)"
    rb"|(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) [/*h][^\x00-\x20]*\Z"
)
_RESPONSE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}[ \r]")


class Conversation:
    """A TCP connection. `take` each of its segments, then `finish`; both return records."""

    __slots__ = (
        "_endpoints",
        "_flags",
        "_key",
        "_listens",
        "_opened_ns",
        "_order",
        "_retransmits",
        "_server",
        "_sides",
        "_state",
        "_undecided",
        "closed",
        "last_ns",
    )

    def __init__(self, first: Segment, number: int, *, budget: Budget, listens: Callable[[bytes], bool]) -> None:
        """`number` tells it from every other; `listens` knows the servers of other connections."""
        self._key = encode_key(number, first.time_ns)
        self._listens = listens
        self._sides = (first.source, first.target)
        self._order = Reassembly(budget)
        self._server = -1
        self._endpoints = b""
        self._flags = 0
        self._state: TcpState | None = None
        """Of the server's socket, once the handshake is done."""
        self._undecided: list[Step] = []
        self._retransmits = 0
        self._opened_ns = self.last_ns = first.time_ns
        self.closed = False
        if first.flags & SYN:
            self._decide(0 if first.flags & ACK else 1, Flag.SERVER)

    @property
    def server(self) -> bytes | None:
        """Address and port of the server, where they are known for certain."""
        return self._sides[self._server] if self._flags & Flag.SERVER else None

    def belongs(self, segment: Segment) -> bool:
        """The segment is of this connection, not of a later one between the same ports."""
        own = self._order.directions[self._side(segment)]
        if own.base is None:
            return True
        offset = own.offset_of(segment.sequence)
        if segment.flags & SYN:
            # The same SYN again, or, where the file begins with later segments, one that comes late.
            return (segment.sequence + 1 - own.base) & 0xFFFFFFFF == 0 or (
                bool(self._flags & Flag.JOINED) and not self.closed and -_NEAR < offset < 0
            )
        return not self.closed or not segment.length or abs(offset - own.next) < _NEAR

    def take(self, segment: Segment) -> list[bytes]:
        """The records that a segment brings about."""
        if self.closed:
            return []
        self.last_ns = max(self.last_ns, segment.time_ns)
        side = self._side(segment)
        records: list[bytes] = []
        if segment.flags & SYN:
            self._handshake(side, segment)
            if not segment.length:
                return records
            # TCP fast open (RFC 7413): the SYN takes a sequence number before the first byte.
            segment = msgspec.structs.replace(
                segment, sequence=(segment.sequence + 1) & 0xFFFFFFFF, flags=segment.flags & ~SYN
            )
        elif self._state is None and self._server >= 0:
            if segment.flags & RST:
                return self._refuse(side, segment)
            self._state = TcpState.SYN_RECV
            records.append(self._to(TcpState.ESTABLISHED, segment.time_ns))
        records += self._tell(self._order.take(side, segment))
        return records

    def finish(self) -> list[bytes]:
        """No more segments will come: what waits is given up, and a connection still open says so (a state that does
        not change)."""
        records = self._tell(self._order.flush()) + self._settle()
        if self._state is not None and not self.closed:
            records.append(self._to(self._state, self.last_ns))
        self._close()
        return records

    def replaced(self) -> list[bytes]:
        """Another connection took its ports: it ended unseen."""
        records = self._tell(self._order.flush()) + self._settle()
        if self._state is not None and not self.closed:
            records.append(self._to(TcpState.CLOSE, self.last_ns))
        self._close()
        return records

    # -- who serves ------------------------------------------------------------------------------------------------

    def _side(self, segment: Segment) -> int:
        return 0 if segment.source == self._sides[0] else 1

    def _decide(self, server: int, flags: int) -> None:
        self._server = server
        self._flags = flags
        self._endpoints = self._endpoints_of(server)

    def _endpoints_of(self, local: int) -> bytes:
        own, peer = self._sides[local], self._sides[1 - local]
        return encode_endpoints(own[:16], int.from_bytes(own[16:]), peer[:16], int.from_bytes(peer[16:]))

    def _handshake(self, side: int, segment: Segment) -> None:
        own, other = self._order.directions[side], self._order.directions[1 - side]
        if own.base is not None:
            self._retransmits += 1
            return
        own.base = (segment.sequence + 1) & 0xFFFFFFFF
        if segment.acknowledged >= 0 and other.base is None:
            other.base = segment.acknowledged

    def _tell(self, steps: list[Step]) -> list[bytes]:
        """The records of steps, once it is known who serves."""
        if self._server >= 0:
            return [record for step in steps for record in self._records(step)]
        for step in steps:
            self._undecided.append(step)
            server = self._by_message(step)
            if server < 0:
                server = next((side for side in (0, 1) if self._listens(self._sides[side])), -1)
            if server >= 0:
                self._decide(server, Flag.JOINED | Flag.SERVER)
        if self._server < 0 and len(self._undecided) < MAX_UNDECIDED and not any(s.flag == RST for s in steps):
            return []
        return self._settle()

    def _by_message(self, step: Step) -> int:
        """The side that serves, if a message begins here."""
        if _REQUEST.match(step.data):
            return 1 - step.side
        return step.side if _RESPONSE.match(step.data) else -1

    def _settle(self) -> list[bytes]:
        """Tell what waits for a decision. The last resort, where no message was seen to begin, is that the lower port
        serves; the records' flags then claim no role, so that whoever understands the bytes may still find it out."""
        if not any(step.length for step in self._undecided):
            if any(step.flag == RST for step in self._undecided):
                self._close()
            return []
        steps, self._undecided = self._undecided, []
        if self._server < 0:
            self._decide(min((0, 1), key=lambda side: (self._sides[side][16:], side)), Flag.JOINED)
        self._state = TcpState.ESTABLISHED
        return [record for step in steps for record in self._records(step)]

    # -- records ---------------------------------------------------------------------------------------------------

    def _records(self, step: Step) -> list[bytes]:
        if self.closed:
            return []
        if step.flag == RST:
            self._close()
            return [self._to(TcpState.CLOSE, step.time_ns, error=0 if step.side == self._server else _ECONNRESET)]
        if step.flag == FIN:
            return self._end(step)
        flags = self._flags | (Flag.SENT if step.side == self._server else 0)
        if step.data and len(step.data) < step.length:
            flags |= Unseen.BUDGET << 8  # a snapshot length is a budget
        return [
            encode_data(
                key=self._key,
                time_ns=step.time_ns,
                endpoints=self._endpoints,
                offset=step.offset,
                data=step.data,
                length=step.length,
                flags=flags,
            )
        ]

    def _end(self, step: Step) -> list[bytes]:
        """A side has sent everything: the states of the server's socket that follow."""
        by_server = step.side == self._server
        if self._state is TcpState.ESTABLISHED:
            return [self._to(TcpState.FIN_WAIT1 if by_server else TcpState.CLOSE_WAIT, step.time_ns)]
        # Both have: the acknowledgement of the second FIN is not waited for.
        states = (TcpState.LAST_ACK if by_server else TcpState.TIME_WAIT, TcpState.CLOSE)
        records = [self._to(state, step.time_ns) for state in states]
        self._close()
        return records

    def _refuse(self, side: int, segment: Segment) -> list[bytes]:
        """A reset answers the SYN. No socket of the server is there to tell of it, so the client's does."""
        self._close()
        if side != self._server:
            return []
        steps = (
            (TcpState.CLOSE, TcpState.SYN_SENT, self._opened_ns, 0),
            (TcpState.SYN_SENT, TcpState.CLOSE, segment.time_ns, _ECONNREFUSED),
        )
        return [
            encode_state(
                key=self._key,
                time_ns=time_ns,
                endpoints=self._endpoints_of(1 - side),
                old_state=old,
                new_state=new,
                flags=Flag.CLIENT,
                error=error,
                retransmits=self._retransmits,
            )
            for old, new, time_ns, error in steps
        ]

    def _to(self, new: TcpState, time_ns: int, *, error: int = 0) -> bytes:
        old, self._state = self._state, new
        received, sent = self._order.directions[1 - self._server], self._order.directions[self._server]
        return encode_state(
            key=self._key,
            time_ns=time_ns,
            endpoints=self._endpoints,
            old_state=old or new,
            new_state=new,
            flags=self._flags,
            sent=sent.next,
            received=received.next,
            arrived=received.next,
            bytes_acked=sent.end if sent.ended and received.ended else min(sent.acknowledged, sent.end),
            bytes_received=received.end,
            error=error,
            retransmits=self._retransmits,
        )

    def _close(self) -> None:
        self.closed = True
        self._order.drop()
