"""What is measured beside spans, gathered: the pipeline speaks to this, and to nothing behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.events.types import Answer, Event, Listener, Refusals, Usage
from otelbpf.metrics.connections import ConnectionMetrics
from otelbpf.metrics.exchanges import ExchangeMetrics
from otelbpf.metrics.names import Names
from otelbpf.metrics.options import MetricsOptions
from otelbpf.metrics.points import Family
from otelbpf.metrics.queues import QueueMetrics
from otelbpf.metrics.requests import RequestMetrics
from otelbpf.metrics.usage import UsageMetrics
from otelbpf.tracing.span import Resource, service_of

_LATEST_NS: Final = (1 << 63) - 1


class Measures:
    """Requests, connections, accept queues and processor time, per service, and who calls whom."""

    def __init__(
        self,
        resource_of: Callable[[int, int, bytes], Resource],
        *,
        wanted: Callable[[int], bool],
        max_connections: int,
        options: MetricsOptions,
    ) -> None:
        """`resource_of` tells who a process was at a time, `wanted` whether it is reported."""

        def service_at(pid: int, time_ns: int, endpoints: bytes) -> str:
            return service_of(resource_of(pid, time_ns, endpoints))

        names = Names()
        self.connections = ConnectionMetrics(
            service_at,
            wanted=wanted,
            max_connections=max_connections,
            options=options,
            name_of=names.of,
        )
        self.exchanges = ExchangeMetrics(options, names.of)

        def service_now(pid: int) -> str:
            return service_at(pid, _LATEST_NS, b"")

        # A request of no process (packets tell of none) is of no service.
        self.requests = RequestMetrics(
            service_now, wanted=lambda pid: pid > 0 and wanted(pid), histogram=options.histogram
        )
        self.queues = QueueMetrics(service_now, wanted=wanted)
        self.usage = UsageMetrics(service_now, wanted=wanted)
        self.takers: dict[type[Event], Callable[..., None]] = {
            Answer: names.note,
            Listener: self.queues.note,
            Refusals: self.queues.refuse,
            Usage: self.usage.note,
        }
        """Whom events go to that are for nobody else."""

    def meet(self, connection: Connection) -> None:
        """The first bytes of a connection were seen."""
        self.connections.meet(connection)
        self.queues.meet(connection)

    def tick(self, now_ns: int, connection_of: Callable[[bytes], Connection | None]) -> None:
        """Time has passed."""
        self.connections.tick(now_ns, connection_of)
        self.requests.tick(now_ns)
        self.queues.tick(now_ns)

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        parts = (self.exchanges, self.connections, self.requests, self.queues, self.usage)
        return [family for part in parts for family in part.snapshot()]
