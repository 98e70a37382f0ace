"""What is counted of every exchange that is over: the metrics of requests, and the graph of services."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from otelbpf.exchanges.exchange import Exchange
from otelbpf.metrics.graph import GraphMetrics
from otelbpf.metrics.red import RedMetrics
from otelbpf.metrics.series import Exemplar, Family
from otelbpf.tracing.span import AttributeSet, AttributeValue, Resource

MAX_SERVICES: Final = 1000
"""Services whose attributes are kept; those that had none for the longest go first."""
_OF_A_PROCESS: Final = frozenset(
    ("service.name", "service.namespace", "service.instance.id", "process.pid", "process.parent_pid", "container.id")
)
"""What differs between the processes of a service, or stands in `job` already."""
MAX_RESOURCES: Final = 4096

Attributes = tuple[tuple[str, AttributeValue], ...]


class ExchangeMetrics:
    """Told of each exchange on the way to its span, before any sampling."""

    def __init__(self) -> None:
        self.red = RedMetrics()
        self.graph = GraphMetrics()
        self.services: OrderedDict[str, Attributes] = OrderedDict()
        """What is known of each service besides its name."""
        self._names: dict[Resource, str] = {}

    def record(
        self,
        exchange: Exchange,
        resource: Resource,
        peer: Resource | None,
        shared: AttributeSet,
        *,
        method: str | None,
        code: str,
        error_type: str,
        failed: bool,
        ids: tuple[bytes, bytes] | None,
        time_ns: int,
    ) -> None:
        """`peer` is who is at the other end, where that is on this host; `ids` are the trace's and the span's, where
        it is exported; `time_ns` is Unix time."""
        service = self._names.get(resource) or self._meet(resource)
        durations, bucket, seconds = self.red.record(
            exchange, service, shared, method=method, code=code, error_type=error_type
        )
        if ids is not None:
            durations.exemplars[bucket] = Exemplar(seconds, *ids, time_ns)
        other = (self._names.get(peer) or self._meet(peer)) if peer is not None else ""
        self.graph.record(service, other, shared, serving=exchange.serving, seconds=seconds, failed=failed)

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        return [*self.red.snapshot(), *self.graph.snapshot()]

    def _meet(self, resource: Resource) -> str:
        service = service_of(resource)
        if len(self._names) >= MAX_RESOURCES:
            self._names.clear()
        self._names[resource] = service
        self.services.pop(service, None)
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
