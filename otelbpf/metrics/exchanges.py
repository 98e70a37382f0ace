"""What is counted of every exchange that is over: the metrics of requests, and the graph of services."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from typing import Final

from otelbpf.exchanges.exchange import Exchange
from otelbpf.metrics import graph, red
from otelbpf.metrics.graph import Edge, GraphMetrics
from otelbpf.metrics.red import RedMetrics, Series
from otelbpf.metrics.series import Family, Histogram
from otelbpf.tracing.span import AttributeSet, AttributeValue, Resource

MAX_SERVICES: Final = 1000
"""Services whose attributes are kept; those met first go first."""
_OF_A_PROCESS: Final = frozenset(
    ("service.name", "service.namespace", "service.instance.id", "process.pid", "process.parent_pid", "container.id")
)
"""What differs between the processes of a service, or stands in `job` already."""
_DURATIONS, _SIZES, _EDGES = red.SECONDS, red.SIZES, graph.SECONDS

Key = tuple[Resource, Resource | None, str | None, str, int, str]
Attributes = tuple[tuple[str, AttributeValue], ...]


class _Place:
    """Where an exchange counts."""

    __slots__ = ("edge", "once", "series", "side")

    def __init__(self, series: Series, edge: Edge, *, serving: bool, peer: bool) -> None:
        self.series = series
        self.edge = edge
        self.side = edge.server if serving else edge.client
        self.once = not (serving and peer)
        """The client's end counts the request for both."""


class ExchangeMetrics:
    """Told of each exchange on the way to its span, before any sampling.

    Where an exchange counts follows from what it shares with others of its connection, and of that is remembered with
    it: so it goes when the connection goes.
    """

    def __init__(self) -> None:
        self.red = RedMetrics()
        self.graph = GraphMetrics()
        self.services: OrderedDict[str, Attributes] = OrderedDict()
        """What is known of each service besides its name."""

    def record(
        self,
        exchange: Exchange,
        resource: Resource,
        peer: Resource | None,
        shared: AttributeSet,
        method: str | None,
        code: str,
        error_type: str,
        failed: bool,
    ) -> tuple[Histogram, int, float]:
        """`peer` is who is at the other end, where that is on this host; `method` that of a call, empty where it is not
        known, None for a request that is no call; `code` the status of a call. Returns where its duration went: the
        histogram, the bucket, the seconds."""
        response = exchange.response
        key = (resource, peer, method, code, 0 if response is None else response.status, error_type)
        place = shared.places.get(key)
        if place is None:
            place = shared.places[key] = self._place(key, shared, exchange.serving)
        first_ns, last_ns = exchange.request_first_ns, exchange.response_last_ns
        if last_ns < exchange.request_last_ns:
            last_ns = exchange.request_last_ns
        seconds = (last_ns - first_ns) / 1e9
        series = place.series
        durations = series.durations
        bucket = bisect_left(_DURATIONS, seconds)
        durations.counts[bucket] += 1
        durations.total += seconds
        size = exchange.request.body_size
        if size >= 0:
            sizes = series.requests
            sizes.counts[bisect_left(_SIZES, size)] += 1
            sizes.total += size
        if response is not None and (size := response.body_size) >= 0:
            sizes = series.responses
            sizes.counts[bisect_left(_SIZES, size)] += 1
            sizes.total += size
        side = place.side
        side.counts[bisect_left(_EDGES, seconds)] += 1
        side.total += seconds
        if place.once:
            edge = place.edge
            edge.total += 1
            if failed:
                edge.failed += 1
        return durations, bucket, seconds

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        return [*self.red.snapshot(), *self.graph.snapshot()]

    def _place(self, key: Key, shared: AttributeSet, serving: bool) -> _Place:
        resource, peer, method, code, status, error_type = key
        service = self._meet(resource)
        other = "" if peer is None else self._meet(peer)
        series = self.red.series(
            service, shared, serving=serving, method=method, code=code, status=status, error_type=error_type
        )
        edge = self.graph.edge(service, other, shared, serving=serving)
        return _Place(series, edge, serving=serving, peer=bool(other))

    def _meet(self, resource: Resource) -> str:
        service = service_of(resource)
        if service not in self.services:
            self.services[service] = tuple(pair for pair in resource.attributes if pair[0] not in _OF_A_PROCESS)
            if len(self.services) > MAX_SERVICES:
                self.services.popitem(last=False)
        return service


def service_of(resource: Resource) -> str:
    """The name of a service, as `job` has it: behind its namespace, where it has one
    (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#resource-attributes-1)."""
    found = dict(resource.attributes)
    name, namespace = str(found["service.name"]), found.get("service.namespace")
    return f"{namespace}/{name}" if namespace else name
