"""Accept queues per service and port: how deep, how deep they may be, and what found no place.

A listening socket belongs to the service that was last at work on a connection it accepted; before there was one, to
the process that called listen().
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from otelbpf.connections.address import parse_endpoints
from otelbpf.connections.connection import Connection
from otelbpf.events.types import Listener, Refusals
from otelbpf.events.wire import Flag
from otelbpf.metrics.points import Attributes, Family
from otelbpf.metrics.requests import WINDOW_NS
from otelbpf.metrics.series import Table

_SERVER: Final = int(Flag.SERVER)
_PLAIN: Final = int(Flag.PLAIN)


class _Queue:
    """The queues of one service at one port."""

    __slots__ = ("depths", "dropped", "limit", "most", "most_before")

    def __init__(self) -> None:
        self.depths: dict[bytes, int] = {}
        """By socket: with SO_REUSEPORT there are several."""
        self.most = self.most_before = 0
        """Of any one socket, in this window and the one before."""
        self.limit = 0
        self.dropped = 0


class QueueMetrics:
    """Takes every listener record, and the first bytes of every accepted connection."""

    def __init__(
        self,
        service_of: Callable[[int], str],
        *,
        wanted: Callable[[int], bool] = lambda pid: True,
        max_sockets: int = 4096,
        max_series: int = 1000,
    ) -> None:
        self._service_of = service_of
        self._wanted = wanted
        self._max = max_sockets
        self._servers: OrderedDict[bytes, int] = OrderedDict()
        self._sockets: OrderedDict[bytes, tuple[Listener, _Queue | None]] = OrderedDict()
        self._table: Table[_Queue] = Table(_Queue, max_series)
        self._window_ns = 0
        self._namespaces: OrderedDict[int, Refusals] = OrderedDict()
        self._refused: Table[list[int]] = Table(lambda: [0, 0], max_series)

    def meet(self, connection: Connection) -> None:
        """The first bytes of a connection were seen."""
        pid = connection.received.pid or connection.sent.pid
        if pid and connection.flags & (_SERVER | _PLAIN) == _SERVER:
            self._servers[_place(connection.endpoints)] = pid
            if len(self._servers) > self._max:
                self._servers.popitem(last=False)

    def note(self, event: Listener) -> None:
        """How it stands with a listening socket."""
        before, queue = self._sockets.pop(event.key, (None, None))
        if queue is None:
            queue = self._queue_of(event)
        self._sockets[event.key] = (event if before is None or queue is not None else before, queue)
        if len(self._sockets) > self._max:
            key, (_, oldest) = self._sockets.popitem(last=False)
            if oldest is not None:
                oldest.depths.pop(key, None)
        if queue is None:
            return
        if before is not None:
            queue.dropped += (event.dropped - before.dropped) & 0xFFFF_FFFF
        elif event.pid:
            queue.dropped += event.dropped  # nothing was dropped before it listened
        queue.depths[event.key] = event.depth
        queue.limit = event.limit
        queue.most = max(queue.most, event.deepest)

    def refuse(self, event: Refusals) -> None:
        """What a network namespace has had no room for: every socket in it, also those that no probe has seen."""
        before = self._namespaces.pop(event.namespace, None)
        self._namespaces[event.namespace] = event
        if len(self._namespaces) > self._max:
            self._namespaces.popitem(last=False)
        refused = self._refused.of("", (("otelbpf.network.namespace", event.namespace),))
        if before is not None:
            refused[0] += max(event.overflows - before.overflows, 0)
            refused[1] += max(event.drops - before.drops, 0)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        if now_ns - self._window_ns < WINDOW_NS:
            return
        self._window_ns = now_ns
        for _, queue in self._table:
            queue.most_before, queue.most = queue.most, max(queue.depths.values(), default=0)

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        points = self._table.points
        return [
            Family(
                "otelbpf.accept_queue.depth",
                "gauge",
                "{connection}",
                "Connections that wait to be accepted.",
                tuple(points(lambda queue: sum(queue.depths.values()))),
            ),
            Family(
                "otelbpf.accept_queue.depth.max",
                "gauge",
                "{connection}",
                "The most that waited at one socket within the last one to two minutes.",
                tuple(points(lambda queue: max(queue.most, queue.most_before))),
            ),
            Family(
                "otelbpf.accept_queue.limit",
                "gauge",
                "{connection}",
                "The backlog of a socket: as many may wait, and one more.",
                tuple(points(lambda queue: queue.limit)),
            ),
            Family(
                "otelbpf.accept_queue.dropped",
                "counter",
                "{connection}",
                "Handshakes that the kernel threw away at a listening socket, above all because its queue was full.",
                tuple(points(lambda queue: queue.dropped)),
            ),
            Family(
                "otelbpf.namespace.listen.overflows",
                "counter",
                "{connection}",
                "Handshakes for which an accept queue in the network namespace had no room (ListenOverflows).",
                tuple(self._refused.points(lambda refused: refused[0])),
            ),
            Family(
                "otelbpf.namespace.listen.drops",
                "counter",
                "{connection}",
                "Handshakes thrown away at listening sockets of the network namespace for any reason (ListenDrops).",
                tuple(self._refused.points(lambda refused: refused[1])),
            ),
        ]

    def _queue_of(self, event: Listener) -> _Queue | None:
        pid = self._servers.get(_place(event.endpoints), event.pid)
        if not pid or not self._wanted(pid):
            return None
        ends = parse_endpoints(event.endpoints)
        attributes: Attributes = (("server.port", ends.local_port),)
        return self._table.of(self._service_of(pid), attributes)


def _place(endpoints: bytes) -> bytes:
    """Port and network namespace."""
    return endpoints[32:34] + endpoints[36:40]
