"""Processor time per service: used, waited for while somebody else ran, and denied by the limits of its cgroups.

Each record has what a process has come to; what is counted is how much that has grown since the record before, so a
process counts from when it was first looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from otelbpf.events.types import Usage
from otelbpf.metrics.points import Family
from otelbpf.metrics.series import Table

_Key = TypeVar("_Key")


class _Service:
    """What a service has come to."""

    __slots__ = ("delayed_ns", "periods", "system_ns", "throttled_ns", "unknown", "user_ns")

    def __init__(self) -> None:
        self.user_ns = self.system_ns = self.delayed_ns = self.throttled_ns = self.periods = 0
        self.unknown = False
        """Of one of its processes it is not known how long it waited."""


class UsageMetrics:
    """Takes every usage record."""

    def __init__(
        self,
        service_of: Callable[[int], str],
        *,
        wanted: Callable[[int], bool] = lambda pid: True,
        max_processes: int = 4096,
        max_series: int = 1000,
    ) -> None:
        self._service_of = service_of
        self._wanted = wanted
        self._max = max_processes
        self._processes: OrderedDict[tuple[int, int], Usage] = OrderedDict()
        self._groups: OrderedDict[tuple[str, str], Usage] = OrderedDict()
        self._table: Table[_Service] = Table(_Service, max_series)

    def note(self, event: Usage) -> None:
        """What a process has come to."""
        if not self._wanted(event.pid):
            return
        name = self._service_of(event.pid)
        service = self._table.of(name)
        before = _replace(self._processes, (event.pid, event.started), event, self._max)
        if before is not None:
            service.user_ns += event.user_ns - before.user_ns
            service.system_ns += event.system_ns - before.system_ns
            if min(event.delayed_ns, before.delayed_ns) >= 0:
                service.delayed_ns += event.delayed_ns - before.delayed_ns
            else:
                service.unknown = True
        # Processes of a service that are in one cgroup are denied the same time.
        before = _replace(self._groups, (name, event.cgroup), event, self._max)
        if before is not None:
            service.periods += max(event.throttled_periods - before.throttled_periods, 0)
            service.throttled_ns += max(event.throttled_ns - before.throttled_ns, 0)

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        points = self._table.points
        return [
            Family(
                "process.cpu.time",
                "counter",
                "s",
                "Processor time of the service's processes.",
                (
                    *points(lambda service: service.user_ns / 1e9, ("cpu.mode", "user")),
                    *points(lambda service: service.system_ns / 1e9, ("cpu.mode", "system")),
                ),
            ),
            Family(
                "otelbpf.process.cpu.delay",
                "counter",
                "s",
                "Time that threads could have run and waited for a processor.",
                tuple(points(lambda service: None if service.unknown else service.delayed_ns / 1e9)),
            ),
            Family(
                "otelbpf.cgroup.cpu.throttled.duration",
                "counter",
                "s",
                "Time during which the limits of its cgroups kept the service from running, over all processors.",
                tuple(points(lambda service: service.throttled_ns / 1e9)),
            ),
            Family(
                "otelbpf.cgroup.cpu.throttled.periods",
                "counter",
                "{period}",
                "Periods in which the limits of its cgroups kept the service from running.",
                tuple(points(lambda service: service.periods)),
            ),
        ]


def _replace(known: OrderedDict[_Key, Usage], key: _Key, event: Usage, limit: int) -> Usage | None:
    """Keep the newest record; the one before it."""
    before = known.pop(key, None)
    known[key] = event
    if len(known) > limit:
        known.popitem(last=False)
    return before
