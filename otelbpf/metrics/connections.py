"""Connections per service and peer: attempts, failures, how long connecting took, how many are open, what they carried.

Everything comes from the kernel's records of TCP states, so it holds for connections of any protocol. A connection
counts where its process is known, which for an accepted one is when somebody has worked at it; its peer is the service
at its other end where that is on this host too (told by the two initial sequence numbers), otherwise an address.
What is not known is not counted: of a connection that was open before the probes, what it retransmitted, and what of
its sending was stalled, may have been before them.
"""

from __future__ import annotations

import errno
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal

from otelbpf.connections.address import address_text
from otelbpf.connections.connection import Connection
from otelbpf.events.traffic import State
from otelbpf.events.wire import Flag, TcpState
from otelbpf.metrics.histogram import SECONDS, Histogram, MakeHistogram
from otelbpf.metrics.options import DEFAULT_METRICS, MetricsOptions
from otelbpf.metrics.points import Attributes, Family, Point
from otelbpf.metrics.series import Table

ServiceOf = Callable[[int, int, bytes], str]
"""(process id, time, raw endpoints) to the name of the service."""
FAILURES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",  # by a reset that came behind the peer's FIN (tcp_reset())
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}
"""error.type by sk_err; any other has its own name."""
ABANDONED: Final = "abandoned"
"""The application gave up, or the kernel found no port, before an answer came."""
WAIT_NS: Final = 1_000_000_000
"""How long a connection that is over waits for its other end's process to show."""
SLICE: Final = 1024
"""Open connections that are looked at each second."""
_BIRTHS: Final = (TcpState.SYN_SENT, TcpState.ESTABLISHED)
_EPOCH: Final = struct.Struct("<Q")
"""The second half of a socket's key: when its life began."""
_CLIENT: Final = int(Flag.CLIENT)
_JOINED: Final = int(Flag.JOINED)
_PLAIN: Final = int(Flag.PLAIN)


class _Series:
    """What is counted of the connections between a service and a peer."""

    __slots__ = (
        "accepted",
        "attempts",
        "connects",
        "failures",
        "open",
        "received",
        "retransmits",
        "rtts",
        "sent",
        "stalled_buffer_ms",
        "stalled_window_ms",
    )

    def __init__(self, histogram: MakeHistogram = Histogram) -> None:
        self.attempts = self.accepted = self.open = 0
        self.sent = self.received = self.retransmits = 0
        self.stalled_buffer_ms = self.stalled_window_ms = 0
        self.connects = histogram(SECONDS)
        self.rtts = histogram(SECONDS)
        self.failures: dict[tuple[str, str], int] = {}
        """By error.type and whether the connection stood."""


class _Known:
    """A connection that was met and is not over, or not counted to its end."""

    __slots__ = (
        "connect_ns",
        "counted",
        "endpoints",
        "key",
        "last",
        "numbers",
        "opened_ns",
        "other",
        "pid",
        "received",
        "role",
        "sent",
        "series",
        "stands",
    )

    def __init__(self, event: State | Connection, pid: int, opened_ns: int) -> None:
        self.key = event.key
        self.endpoints = event.endpoints
        self.role = event.flags & (_CLIENT | _JOINED)
        """0: it was accepted."""
        self.pid = pid
        self.opened_ns = opened_ns
        self.numbers: tuple[int, int] | None = None
        self.other: _Known | None = None
        self.stands = False
        """It was established."""
        self.connect_ns = -1
        """How long that took, until it is counted."""
        self.last: State | None = None
        """The kernel's last word."""
        self.series: _Series | None = None
        self.counted = False
        """It is among its series' open ones."""
        self.sent = self.received = 0
        """Bytes that are counted."""


class ConnectionMetrics:
    """Takes every state record, and looks at open connections once a second."""

    def __init__(
        self,
        service_of: ServiceOf,
        *,
        wanted: Callable[[int], bool] = lambda pid: True,
        max_connections: int = 65536,
        options: MetricsOptions = DEFAULT_METRICS,
        name_of: Callable[[str], str] = str,
    ) -> None:
        """`wanted` tells whether a process's connections are reported."""
        self._service_of = service_of
        self._name_of = name_of
        self._wanted = wanted
        self._max = max_connections
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._alone: dict[tuple[int, int], _Known] = {}
        self._over: list[_Known] = []
        self._table: Table[_Series] = Table(
            partial(_Series, options.histogram), options.max_series, options.max_of_service
        )
        self.evicted = 0
        """Connections whose place another one needed: what they do from then on is in no metric."""
        self.unattributed = 0
        """Connections that were over before any process was seen at them: in no metric."""

    def note(self, event: State) -> None:
        """A connection changed its state."""
        known = self._known.get(event.key)
        old, new = event.old_state, event.new_state
        if known is None:
            if old is new or new not in _BIRTHS:
                return  # it had to give way
            known = self._meet(_Known(event, event.pid, _EPOCH.unpack_from(event.key, 8)[0]))
        if event.pid:
            known.pid = event.pid
        if new is TcpState.ESTABLISHED and old is not new:
            self._establish(known, event)
        elif new is TcpState.CLOSE or new is old:
            known.last = event
            del self._known[event.key]
            if known.numbers is not None and self._alone.get(known.numbers) is known:
                del self._alone[known.numbers]
            if not self._count(known, waiting=True):
                self._over.append(known)

    def meet(self, connection: Connection) -> None:
        """The first bytes of a connection were seen: where it is older than the probes, nothing else tells of it."""
        if connection.flags & _JOINED and not connection.flags & _PLAIN and connection.key not in self._known:
            known = self._meet(_Known(connection, 0, connection.opened_ns))
            known.stands = True

    def tick(self, now_ns: int, connection_of: Callable[[bytes], Connection | None]) -> None:
        """A second has passed: count what open connections have carried, a slice of them at a time, and those that are
        over and waited for their other end."""
        over, self._over = self._over, []
        for known in over:
            last = known.last
            waiting = last is not None and now_ns - last.time_ns < WAIT_NS
            _look(known.other, connection_of)
            if not self._count(known, waiting=waiting):
                if waiting:
                    self._over.append(known)
                else:
                    self.unattributed += 1
        table = self._known
        for _ in range(min(len(table), SLICE)):
            key, known = table.popitem(last=False)
            table[key] = known
            connection = connection_of(key)
            _look(known, connection_of)
            _look(known.other, connection_of)
            if now_ns - known.opened_ns >= WAIT_NS and self._count(known, waiting=False) and connection is not None:
                _carry(known, connection.sent.position, connection.received.position)

    def finish(self, now_ns: int) -> None:
        """The source has ended: nobody will show any more."""
        self.tick(now_ns + WAIT_NS, lambda key: None)

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        points = self._table.points
        failures = (
            point
            for kind in sorted({kind for _, series in self._table for kind in list(series.failures)})
            for point in points(
                lambda series, kind=kind: series.failures.get(kind),  # type: ignore[misc]
                ("error.type", kind[0]),
                ("otelbpf.connection.phase", kind[1]),
            )
        )
        return [
            _family("attempts", "counter", "{connection}", "Connections begun.", points(lambda s: s.attempts or None)),
            _family(
                "accepted", "counter", "{connection}", "Connections taken in.", points(lambda s: s.accepted or None)
            ),
            _family(
                "failures",
                "counter",
                "{connection}",
                "Connections that came to nothing (phase connect), or were torn down (phase open).",
                failures,
            ),
            _family(
                "connect.duration",
                "histogram",
                "s",
                "From a client's SYN until the connection stood.",
                points(lambda s: s.connects if s.connects.count else None),
            ),
            _family("open", "updown", "{connection}", "Connections that stand now.", points(lambda s: s.open)),
            _family(
                "io",
                "counter",
                "By",
                "Bytes sent and received, as the streams count them.",
                (
                    *points(lambda s: s.sent, ("network.io.direction", "transmit")),
                    *points(lambda s: s.received, ("network.io.direction", "receive")),
                ),
            ),
            _family(
                "retransmits",
                "counter",
                "{segment}",
                "Segments sent again, told when a connection ends.",
                points(lambda s: s.retransmits),
            ),
            _family(
                "rtt",
                "histogram",
                "s",
                "Smoothed round-trip time when a connection ended.",
                points(lambda s: s.rtts if s.rtts.count else None),
            ),
            _family(
                "send.stalled",
                "counter",
                "s",
                "Time during which sending stood still, told when a connection ends: because the send buffer was too "
                "small, or because the peer did not read (its receive window was full).",
                (
                    *points(lambda s: s.stalled_buffer_ms / 1000, ("otelbpf.stall.cause", "send_buffer")),
                    *points(lambda s: s.stalled_window_ms / 1000, ("otelbpf.stall.cause", "receive_window")),
                ),
            ),
            _family(
                "uncounted",
                "counter",
                "{connection}",
                "Connections that are in none of these: no process was ever seen at them, or they had to give way.",
                (
                    Point("", (("reason", "no_process"),), self.unattributed),
                    Point("", (("reason", "evicted"),), self.evicted),
                ),
            ),
        ]

    def _meet(self, known: _Known) -> _Known:
        if len(self._known) >= self._max:
            _, quiet = self._known.popitem(last=False)
            self.evicted += 1
            if quiet.counted and quiet.series is not None:
                quiet.series.open -= 1
            if quiet.numbers is not None and self._alone.get(quiet.numbers) is quiet:
                del self._alone[quiet.numbers]
        self._known[known.key] = known
        return known

    def _establish(self, known: _Known, event: State) -> None:
        known.stands = True
        known.endpoints = event.endpoints
        if event.first_sent or event.first_received:
            known.numbers = (event.first_sent, event.first_received)
            other = self._alone.pop((event.first_received, event.first_sent), None)
            if other is None:
                self._alone[known.numbers] = known
            else:
                known.other, other.other = other, known
        if known.role == _CLIENT:
            known.connect_ns = max(event.time_ns - known.opened_ns, 0)

    def _count(self, known: _Known, *, waiting: bool) -> bool:
        """Count what is new of a connection. False where it is not known whose it is, or (`waiting`) whose peer."""
        series = known.series
        if series is None:
            if not known.pid or (waiting and known.other is not None and not known.other.pid):
                return False
            if not self._wanted(known.pid):
                return True
            service = self._service_of(known.pid, known.opened_ns, known.endpoints)
            series = known.series = self._table.of(service, self._ends(known))
            known.other = None  # two that know each other would stay until the garbage collector comes
            series.attempts += known.role == _CLIENT
            series.accepted += known.role == 0
        if known.connect_ns >= 0:
            series.connects.add(known.connect_ns / 1e9)
            known.connect_ns = -1
        if known.last is not None:
            _close(known, series, known.last)
        elif known.stands and not known.counted:
            known.counted = True
            series.open += 1
        return True

    def _ends(self, known: _Known) -> Attributes:
        """In which role, and to whom."""
        other = known.other
        client = known.role & _CLIENT
        role = ("otelbpf.connection.role", "client" if client else "server")
        if other is not None and other.pid:
            peer = self._service_of(other.pid, other.opened_ns, other.endpoints)
            return role, ("service.peer.name", peer)
        address = address_text(known.endpoints[16:32])
        if client:
            return (
                role,
                ("server.address", self._name_of(address)),
                ("server.port", int.from_bytes(known.endpoints[34:36], "little")),
            )
        return role, ("client.address", address)


def _look(known: _Known | None, connection_of: Callable[[bytes], Connection | None]) -> None:
    """Who works at it shows in its data: that is not told here record by record."""
    if known is None or known.pid:
        return
    connection = connection_of(known.key)
    if connection is not None:
        known.pid = connection.received.pid or connection.sent.pid


def _carry(known: _Known, sent: int, received: int) -> None:
    """Its streams have come so far."""
    series = known.series
    if series is not None:
        series.sent += max(sent - known.sent, 0)
        series.received += max(received - known.received, 0)
        known.sent, known.received = max(sent, known.sent), max(received, known.received)


def _close(known: _Known, series: _Series, last: State) -> None:
    series.open -= known.counted
    known.counted = False
    _carry(known, last.sent, last.received)
    if last.new_state is not TcpState.CLOSE:
        return  # still open when the source ended
    if not known.stands or last.error:
        reason = FAILURES.get(last.error) or errno.errorcode.get(last.error, ABANDONED)
        kind = (reason, "open" if known.stands else "connect")
        series.failures[kind] = series.failures.get(kind, 0) + 1
    if known.role & _JOINED:
        return
    series.retransmits += last.retransmits
    series.stalled_buffer_ms += last.buffer_limited_ms
    series.stalled_window_ms += last.window_limited_ms
    if last.smoothed_rtt_us:
        series.rtts.add(last.smoothed_rtt_us / 1e6)


def _family(
    name: str,
    kind: Literal["counter", "updown", "gauge", "histogram"],
    unit: str,
    description: str,
    points: Iterable[Point],
) -> Family:
    return Family(f"otelbpf.connection.{name}", kind, unit, description, tuple(points))
