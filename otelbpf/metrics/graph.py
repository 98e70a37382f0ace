"""Who calls whom: the metrics from which Grafana draws a service graph, by the names that Tempo and the OpenTelemetry
Collector's servicegraph connector gave them.

An edge is counted once, however many of its ends are on this host: by the client where both are, and what the server
took is added by the server. Only one end is known where the other is elsewhere, or in another network namespace and the
connection was open before the probes. A server elsewhere is called by the name that TLS or HTTP asked for, or under
which a name server knew it, otherwise by its address; clients elsewhere are `user`. Both are virtual nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from otelbpf.metrics.histogram import Histogram, MakeHistogram
from otelbpf.metrics.options import DEFAULT_METRICS, MetricsOptions
from otelbpf.metrics.points import Family
from otelbpf.metrics.series import OVERFLOWN, Table
from otelbpf.tracing.span import AttributeSet

SECONDS: Final = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384)
LONGEST: Final = 256
_VIRTUAL: Final = "virtual_node"
_USER: Final = "user"
_NAMES: Final = ("tls.client.server_name", "server.address")
_UNKNOWN: Final = "unknown"


class Edge:
    """Two services."""

    __slots__ = ("client", "failed", "server", "total")

    def __init__(self, histogram: MakeHistogram = Histogram) -> None:
        self.total = self.failed = 0
        self.client, self.server = histogram(SECONDS), histogram(SECONDS)


class GraphMetrics:
    """Finds the edge of an exchange."""

    def __init__(self, options: MetricsOptions = DEFAULT_METRICS, name_of: Callable[[str], str] = str) -> None:
        """`name_of` tells what an address is called."""
        self._name_of = name_of
        self._table = Table(partial(Edge, options.histogram), options.max_series)
        self._max_outside = options.max_of_service
        self._outside: dict[str, set[str]] = {}
        """By service, what it speaks with that is not on this host."""

    def edge(self, service: str, peer: str, shared: AttributeSet, *, serving: bool) -> Edge:
        """`peer` is the service at the other end, empty where that is not on this host."""
        if serving:
            client, server = peer or _USER, service
        else:
            client, server = service, peer or self._elsewhere(shared)
        if not peer:
            names = self._outside.setdefault(service, set())
            if len(names) >= self._max_outside - 1 and server not in names:
                return self._table.of("", OVERFLOWN)
            names.add(server)
        kind = "" if peer else _VIRTUAL
        return self._table.of("", (("client", client), ("server", server), ("connection_type", kind)))

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        points = self._table.points
        return [
            Family(
                "traces_service_graph_request",
                "counter",
                "",
                "Requests between two services.",
                tuple(points(lambda edge: edge.total)),
            ),
            Family(
                "traces_service_graph_request_failed",
                "counter",
                "",
                "Requests between two services that failed.",
                tuple(points(lambda edge: edge.failed)),
            ),
            Family(
                "traces_service_graph_request_client",
                "histogram",
                "s",
                "Duration of requests between two services, as the client saw it.",
                tuple(points(lambda edge: edge.client if any(edge.client.counts) else None)),
            ),
            Family(
                "traces_service_graph_request_server",
                "histogram",
                "s",
                "Duration of requests between two services, as the server saw it.",
                tuple(points(lambda edge: edge.server if any(edge.server.counts) else None)),
            ),
        ]

    def _elsewhere(self, shared: AttributeSet) -> str:
        known = dict(shared.attributes)
        address = str(known.get("network.peer.address", _UNKNOWN))
        names = (str(known[name]) for name in _NAMES if name in known)
        return next((name for name in names if len(name) <= LONGEST and name != address), self._name_of(address))
