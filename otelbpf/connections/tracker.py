"""Keeps the connections: opens them at first sight, hands out their records in order, settles their account at the end.

Bounded: when the table is full the connection that was quiet the longest gives way; the kernel is asked to mute it,
its further bytes are counted, and what it still had open is lost by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.connections.stream import explain_holes
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Tls
from otelbpf.events.wire import Flag, TcpState
from otelbpf.telemetry.ledger import ByteAccount, Ledger, Unseen

MAX_GONE: Final = 65536
"""Connections that gave way and are remembered until the kernel tells their end, however few have a place in the table:
one that is forgotten before would be taken for a new one, and its bytes counted twice."""

_ERRORS: Final = {111: "refused", 110: "timed_out", 104: "reset", 113: "unreachable", 101: "unreachable"}
# Tuples and numbers: the hash and the operators of an enum's members are calls into Python.
# Python 3.11 takes ten times as long for a member of an enum as for a name.
_SYN_SENT: Final = TcpState.SYN_SENT
_ESTABLISHED: Final = TcpState.ESTABLISHED
_LAST_ACK: Final = TcpState.LAST_ACK
_CLOSE: Final = TcpState.CLOSE
_REMOTE_FIN: Final = (TcpState.CLOSE_WAIT, TcpState.CLOSING, TcpState.TIME_WAIT, TcpState.LAST_ACK)
_LOCAL_FIN: Final = (TcpState.FIN_WAIT1, TcpState.LAST_ACK)
_ROLE: Final = int(Flag.CLIENT | Flag.SERVER)
_CLIENT: Final = int(Flag.CLIENT)
_PLAIN: Final = int(Flag.PLAIN)


class Tracker:
    """The table of connections and the account of their bytes."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        max_connections: int,
        mute: Callable[[bytes], None],
        evicted: Callable[[Connection], None],
        begin_plain: Callable[[Connection, Data | Tls], None],
    ) -> None:
        """`mute` asks the source for silence about a socket; `evicted` is told of a connection that had to give way,
        `begin_plain` of one that is the plain text of a TLS session, and of what was told of it first."""
        self._ledger = ledger
        self._max = max_connections
        self._mute = mute
        self._evicted = evicted
        self._begin_plain = begin_plain
        self._table: OrderedDict[bytes, Connection] = OrderedDict()
        # Bytes already accounted of connections that gave way, (received, sent), until the kernel tells their end.
        self._gone: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._waiting: dict[bytes, Connection] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._table.values())

    def get(self, key: bytes) -> Connection | None:
        """The connection of a key, where there is one."""
        return self._table.get(key)

    def find(self, event: Data | State | Tls) -> Connection | None:
        """The connection of a record, opened if need be; None where it had to give way earlier."""
        connection = self._table.get(event.key)
        if connection is None:
            if event.key in self._gone:
                return None
            connection = self._open(event)
        connection.touched_ns = event.time_ns
        return connection

    def note_waiting(self, connection: Connection) -> None:
        """Records of this connection wait behind a hole; `overdue` looks at it until they do no more."""
        self._waiting[connection.key] = connection

    def overdue(self) -> list[Connection]:
        """Connections whose holes may be due."""
        if not self._waiting:
            return []
        waiting = list(self._waiting.values())
        self._waiting = {c.key: c for c in waiting if c.held and c.key in self._table}
        return waiting

    def state(self, event: State) -> Connection | None:
        """Take a change of state: learn addresses, role and the ends of the streams. The caller looks at `new_state`
        to see whether the connection is over, and then calls `settle`."""
        old, new = event.old_state, event.new_state
        if old is _SYN_SENT and new is _CLOSE:
            self._ledger.connections[_ERRORS.get(event.error, "abandoned" if not event.error else "failed")] += 1
            connection = self._table.get(event.key)
            if connection is not None and connection.sent.position:
                return connection  # it sent something with its first packet (RFC 7413): that has an account to settle
            self._table.pop(event.key, None)
            return None
        if event.key in self._gone:
            return None
        connection = self.find(event)
        if connection is None:
            return None
        connection.flags |= event.flags & _ROLE
        if new is _ESTABLISHED:
            connection.endpoints = event.endpoints
            if event.first_sent or event.first_received:
                connection.first_sequence = (event.first_sent, event.first_received)
        if new in _LOCAL_FIN and old is not _LAST_ACK:
            connection.sent.end = event.sent
            connection.ending = True
            connection.closing_ns = connection.closing_ns or event.time_ns
        if new in _REMOTE_FIN and connection.received.end < 0:
            connection.received.end = event.arrived
            connection.ending = True
            if connection.flags & _CLIENT:
                connection.closing_ns = connection.closing_ns or event.time_ns
        return connection

    def settle(self, event: State) -> None:
        """The kernel's last word on a socket, whose streams are finished: close its account. It is still open where the
        source ends before it."""
        ledger = self._ledger
        connection = self._table.get(event.key)
        if connection is None:
            gone = self._gone.pop(event.key, None)
            if gone is None:
                return
            for kernel, counted in zip((event.arrived, event.sent), gone, strict=True):
                ledger.kernel_bytes += kernel - counted
                ledger.unseen_bytes[Unseen.EVICTED] += kernel - counted
            return
        # While it is open, what has arrived will still be read: only at the end it is certain that it was not.
        unread = event.arrived - event.received if event.new_state is _CLOSE else 0
        if unread > 0:
            ledger.kernel_bytes += unread
            ledger.unseen_bytes[Unseen.UNREAD] += unread
        # What the streams counted beyond the kernel's numbers would be a fault of ours: it shows in the balance.
        ledger.kernel_bytes += event.sent - connection.sent.position + event.received - connection.received.position
        explain_holes(ledger, connection.sent.holes, muted=event.muted_sent, ring_full=event.lost_sent)
        explain_holes(ledger, connection.received.holes, muted=event.muted_received, ring_full=event.lost_received)
        self.drop(connection)

    def settle_plain(self, connection: Connection, event: Tls) -> None:
        """A TLS session has ended, whose streams are finished: close its account."""
        account = self._ledger.tls
        account.kernel_bytes += event.sent - connection.sent.position + event.received - connection.received.position
        explain_holes(account, connection.sent.holes, muted=event.muted_sent, ring_full=event.lost_sent)
        explain_holes(account, connection.received.holes, muted=event.muted_received, ring_full=event.lost_received)
        self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Forget a connection."""
        self._table.pop(connection.key, None)
        self._waiting.pop(connection.key, None)

    def _open(self, event: Data | State | Tls) -> Connection:
        if len(self._table) >= self._max:
            self._give_way()
        if event.flags & _PLAIN and not isinstance(event, State):
            account: ByteAccount = self._ledger.tls
            connection = Connection(event.key, event.endpoints, event.flags, event.time_ns, account)
            self._table[event.key] = connection
            self._ledger.connections["tls_joined" if connection.joined else "tls_opened"] += 1
            self._begin_plain(connection, event)
            return connection
        connection = Connection(event.key, event.endpoints, event.flags, event.time_ns, self._ledger)
        self._table[event.key] = connection
        self._ledger.connections["joined" if connection.joined else "opened"] += 1
        return connection

    def _give_way(self) -> None:
        """Evict the quietest of the oldest: a sample, so that the price does not grow with the table."""
        sample = [connection for connection, _ in zip(self._table.values(), range(16), strict=False)]
        quietest = min(sample, key=lambda connection: connection.touched_ns)
        for connection in sample:
            if connection is not quietest:
                self._table.move_to_end(connection.key)
        self._evicted(quietest)
        self._ledger.connections["evicted"] += 1
        self.drop(quietest)
        self._gone[quietest.key] = (quietest.received.position, quietest.sent.position)
        if len(self._gone) > max(self._max, MAX_GONE):
            self._gone.popitem(last=False)
        if not quietest.muted:
            self._mute(quietest.key)
