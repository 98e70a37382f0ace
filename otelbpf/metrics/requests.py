"""Requests open at once, and how long they waited in the socket before the application read them, per service.

A request is open from its first byte until the last byte of its answer, or until it is lost. This stands in the way of
every request: one look-up when it begins, a subtraction when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from otelbpf.metrics.histogram import SECONDS, Histogram, MakeHistogram
from otelbpf.metrics.points import Family, Point
from otelbpf.metrics.series import OVERFLOWN
from otelbpf.telemetry.ledger import Running

WINDOW_NS: Final = 60_000_000_000
"""The most of this time and of the one before are told: so a scrape misses no peak, however it falls."""
Roles = tuple["ServiceRequests", "ServiceRequests"]
"""As client, as server."""
_ROLES: Final = (("otelbpf.request.role", "client"), ("otelbpf.request.role", "server"))


class ServiceRequests(Running):
    """The requests of one service in one role."""

    __slots__ = ("most", "most_before", "unknown", "waits")

    def __init__(self, histogram: MakeHistogram = Histogram) -> None:
        super().__init__()
        self.most = self.most_before = 0
        self.waits = histogram(SECONDS)
        self.unknown = 0
        """Requests whose wait is not known."""


class RequestMetrics:
    """Told of each request's beginning; its `Running` is told of the end."""

    def __init__(
        self,
        service_of: Callable[[int], str],
        *,
        wanted: Callable[[int], bool] = lambda pid: True,
        max_processes: int = 8192,
        max_services: int = 1000,
        histogram: MakeHistogram = Histogram,
    ) -> None:
        """`wanted` tells whether a process's requests are reported."""
        self._service_of = service_of
        self._wanted = wanted
        self._max_processes = max_processes
        self._max_services = max_services
        self._histogram = histogram
        self._services: dict[str, Roles] = {}
        self._overflow = self._make()
        self._unwanted = self._make()
        self._processes: dict[int, Roles] = {}
        self._window_ns = 0

    def begin(self, pid: int, serving: bool, waited_us: int) -> Running:
        """A request begins; `waited_us` is -1 where it is not known."""
        roles = self._processes.get(pid)
        running = (roles if roles is not None else self._meet(pid))[serving]
        running.now = now = running.now + 1
        if now > running.most:
            running.most = now
        if serving:
            if waited_us < 0:
                running.unknown += 1
            else:
                running.waits.add(waited_us / 1e6)
        return running

    def forget(self, pid: int) -> None:
        """The process may be of another service from now on; what is open stays where it began."""
        self._processes.pop(pid, None)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        if now_ns - self._window_ns < WINDOW_NS:
            return
        self._window_ns = now_ns
        for roles in (*self._services.values(), self._overflow):
            for running in roles:
                running.most_before, running.most = running.most, running.now

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        return [
            Family(
                "otelbpf.request.open",
                "updown",
                "{request}",
                "Requests begun and not answered to the end.",
                tuple(self._points(lambda running: running.now)),
            ),
            Family(
                "otelbpf.request.open.max",
                "gauge",
                "{request}",
                "The most requests open at once within the last one to two minutes.",
                tuple(self._points(lambda running: max(running.most, running.most_before))),
            ),
            Family(
                "otelbpf.socket.wait.duration",
                "histogram",
                "s",
                "From when a request's first byte could be read until the application had read it.",
                tuple(self._points(lambda running: running.waits, roles=(1,))),
            ),
            Family(
                "otelbpf.socket.wait.unknown",
                "counter",
                "{request}",
                "Requests for which that is not known: inside TLS, behind bytes that were not read, or met midway.",
                tuple(self._points(lambda running: running.unknown, roles=(1,))),
            ),
        ]

    def _meet(self, pid: int) -> Roles:
        if len(self._processes) >= self._max_processes:
            self._processes.clear()  # who is at work is asked for again; what is open knows where it counts
        roles = self._roles_of(pid)
        self._processes[pid] = roles
        return roles

    def _roles_of(self, pid: int) -> Roles:
        if not self._wanted(pid):
            return self._unwanted
        service = self._service_of(pid)
        roles = self._services.get(service)
        if roles is None:
            if len(self._services) < self._max_services:
                roles = self._services[service] = self._make()
            else:
                roles = self._overflow
        return roles

    def _make(self) -> Roles:
        return ServiceRequests(self._histogram), ServiceRequests(self._histogram)

    def _points(
        self, value: Callable[[ServiceRequests], int | Histogram], *, roles: Iterable[int] = (0, 1)
    ) -> Iterator[Point]:
        for service, pair in list(self._services.items()):
            for role in roles:
                if pair[role].most or pair[role].most_before or pair[role].waits.count or pair[role].unknown:
                    yield Point(service, (_ROLES[role],), value(pair[role]))
        for role in roles:
            if self._overflow[role].most or self._overflow[role].most_before:
                yield Point("", (_ROLES[role], *OVERFLOWN), value(self._overflow[role]))
