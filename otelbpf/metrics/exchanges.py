"""What is counted of every exchange that is over: the metrics of requests, and the graph of services."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from otelbpf.exchanges.exchange import Exchange
from otelbpf.metrics.exponential import FineHistogram
from otelbpf.metrics.graph import SECONDS as EDGES
from otelbpf.metrics.graph import Edge, GraphMetrics
from otelbpf.metrics.histogram import bucket_of
from otelbpf.metrics.options import DEFAULT_METRICS, MetricsOptions
from otelbpf.metrics.points import Family
from otelbpf.metrics.red import SECONDS, SIZES, Labels, RedMetrics, Series, base_of
from otelbpf.tracing.routes import Route
from otelbpf.tracing.span import AttributeSet, AttributeValue, Exemplars, Resource, service_of

MAX_SERVICES: Final = 1000
"""Services whose attributes are kept; those met first go first."""
_OF_A_PROCESS: Final = frozenset(
    ("service.name", "service.namespace", "service.instance.id", "process.pid", "process.parent_pid", "container.id")
)
"""What differs between the processes of a service, or stands in `job` already."""

MAX_GROUPS: Final = 4096
MAX_PLACES: Final = 512
"""Of each group. Of both, all are looked up anew when they are too many: no count stands in them."""

Attributes = tuple[tuple[str, AttributeValue], ...]


class _Place:
    """Where an exchange counts."""

    __slots__ = ("edge", "once", "series", "side")

    def __init__(self, series: Series, edge: Edge, *, serving: bool, once: bool) -> None:
        self.series = series
        self.edge = edge
        self.side = edge.server if serving else edge.client
        self.once = once
        """The client's end counts the request for both."""


class _Group:
    """What exchanges have in common that differ in what was asked and answered; many connections are alike."""

    __slots__ = ("base", "edge", "once", "places", "service", "serving")

    def __init__(self, service: str, base: Labels, edge: Edge, *, serving: bool, once: bool) -> None:
        self.service = service
        self.base = base
        self.edge = edge
        self.serving = serving
        self.once = once
        self.places: dict[tuple[Route | None, str | None, str, int, str], _Place] = {}


class ExchangeMetrics:
    """Told of each exchange on the way to its span, before any sampling.

    A connection remembers its group, and a group where each kind of exchange counts.
    """

    def __init__(self, options: MetricsOptions = DEFAULT_METRICS, name_of: Callable[[str], str] = str) -> None:
        """`name_of` tells what an address is called."""
        self.red = RedMetrics(options)
        self.graph = GraphMetrics(options, name_of)
        self._fine = options.exponential
        self._groups: dict[tuple[str, Labels, Edge, bool, bool], _Group] = {}
        self.services: OrderedDict[str, Attributes] = OrderedDict()
        """What is known of each service besides its name."""

    def record(
        self,
        exchange: Exchange,
        resource: Resource,
        peer: Resource | None,
        shared: AttributeSet,
        route: Route | None,
        method: str | None,
        code: str,
        error_type: str,
        failed: bool,
    ) -> tuple[Exemplars, int, float]:
        """`peer` is who is at the other end, where that is on this host; `method` that of a call, empty where it is not
        known, None for a request that is no call; `code` the status of a call. Returns where its duration went: the
        exemplars of the histogram, the bucket, the seconds."""
        response = exchange.response
        group = shared.group
        if shared.resource is not resource or shared.peer is not peer or not isinstance(group, _Group):
            group = self._group(resource, peer, shared, serving=exchange.serving, call=method is not None)
            shared.resource, shared.peer, shared.group = resource, peer, group
        key = (route, method, code, 0 if response is None else response.status, error_type)
        place = group.places.get(key)
        if place is None:
            place = self._place(group, *key)
            if len(group.places) >= MAX_PLACES:
                group.places.clear()
            group.places[key] = place
        first_ns, last_ns = exchange.request_first_ns, exchange.response_last_ns
        if last_ns < exchange.request_last_ns:
            last_ns = exchange.request_last_ns
        seconds = (last_ns - first_ns) / 1e9
        series = place.series
        durations = series.durations
        bucket = bucket_of(SECONDS, seconds)
        durations.counts[bucket] += 1
        durations.total += seconds
        size = exchange.request.body_size
        if size >= 0:
            sizes = series.requests
            sizes.counts[bucket_of(SIZES, size)] += 1
            sizes.total += size
        if response is not None and (size := response.body_size) >= 0:
            sizes = series.responses
            sizes.counts[bucket_of(SIZES, size)] += 1
            sizes.total += size
        side = place.side
        side.counts[bucket_of(EDGES, seconds)] += 1
        side.total += seconds
        if place.once:
            edge = place.edge
            edge.total += 1
            if failed:
                edge.failed += 1
        if self._fine:
            _count_finely(exchange, place, seconds)
        return durations.exemplars, bucket, seconds

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        return [*self.red.snapshot(), *self.graph.snapshot()]

    def _group(
        self, resource: Resource, peer: Resource | None, shared: AttributeSet, *, serving: bool, call: bool
    ) -> _Group:
        service = self._meet(resource)
        other = "" if peer is None else self._meet(peer)
        edge = self.graph.edge(service, other, shared, serving=serving)
        base = base_of(shared, serving=serving, call=call)
        key = (service, base, edge, serving, bool(other))
        group = self._groups.get(key)
        if group is None:
            group = _Group(service, base, edge, serving=serving, once=not (serving and other))
            if len(self._groups) >= MAX_GROUPS:
                self._groups.clear()
            self._groups[key] = group
        return group

    def _place(
        self, group: _Group, route: Route | None, method: str | None, code: str, status: int, error_type: str
    ) -> _Place:
        series = self.red.series(
            group.service,
            group.base,
            serving=group.serving,
            route=route,
            method=method,
            code=code,
            status=status,
            error_type=error_type,
        )
        return _Place(series, group.edge, serving=group.serving, once=group.once)

    def _meet(self, resource: Resource) -> str:
        service = service_of(resource)
        if service not in self.services:
            self.services[service] = tuple(pair for pair in resource.attributes if pair[0] not in _OF_A_PROCESS)
            if len(self.services) > MAX_SERVICES:
                self.services.popitem(last=False)
        return service


def _count_finely(exchange: Exchange, place: _Place, seconds: float) -> None:
    """The same values by powers of two."""
    response, series = exchange.response, place.series
    told = [(series.durations, seconds), (place.side, seconds), (series.requests, exchange.request.body_size)]
    if response is not None:
        told.append((series.responses, response.body_size))
    for histogram, value in told:
        if isinstance(histogram, FineHistogram) and value >= 0:
            histogram.add_fine(value)
