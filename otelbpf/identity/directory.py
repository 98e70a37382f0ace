"""Who a process was when it did something: identities by process id and time, and the resource each of them stands for.

A process that execs gets a new identity, and so does one that takes the number of another; records that come late still
find the one that held at their time. Bounded in number and, since users choose their processes' arguments and
environment, in bytes: the process that was asked for the longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from otelbpf.connections.address import parse_endpoints
from otelbpf.events.types import Host, Identity, ProcessSeen
from otelbpf.identity.resources import Attributes, packet_attributes, resource_attributes

R = TypeVar("R")

MAX_PAST: Final = 4
"""Identities that are kept of one process id: records are late by milliseconds, a process id returns after minutes."""
_TICKS_NS: Final = 20_000_000
_UNKNOWN: Final = Identity(pid=0)


class _Entry(Generic[R]):
    """An identity, and its resource once it was asked for: one object for as long as the identity holds."""

    __slots__ = ("identity", "resource", "since_ns", "size_bytes")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.since_ns = identity.time_ns
        self.size_bytes = sum(map(len, identity.command)) + sum(map(len, identity.environment.values()))
        self.resource: R | None = None


class Directory(Generic[R]):
    """The processes of a host, or the servers that packets tell of."""

    def __init__(
        self,
        make: Callable[[Attributes], R],
        *,
        extra: Sequence[tuple[str, str]] = (),
        max_processes: int = 8192,
        max_bytes: int = 16 << 20,
    ) -> None:
        """`make` makes a resource of attributes; `extra` attributes are added to each of them. `max_bytes` bounds the
        arguments and environments of all processes together."""
        self._make = make
        self._extra = tuple(extra)
        self._max = max_processes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._host = Host()
        self._processes: OrderedDict[int, list[_Entry[R]]] = OrderedDict()
        self._servers: OrderedDict[bytes, R] = OrderedDict()
        self._unknown: R | None = None

    def __len__(self) -> int:
        return len(self._processes)

    def set_host(self, host: Host) -> None:
        """The machine the records come from; resources made from now on tell it."""
        if host == self._host:
            return
        self._host = host
        self._servers.clear()
        self._unknown = None
        for entries in self._processes.values():
            for entry in entries:
                entry.resource = None

    def see(self, event: ProcessSeen) -> None:
        """The kernel met a process: all that is known of it if nothing can be read any more."""
        self.add(Identity(pid=event.pid, started_ns=event.started_ns, time_ns=event.time_ns, comm=event.comm))

    def add(self, identity: Identity) -> None:
        """From `time_ns` on, this is who the process is."""
        entries = self._processes.setdefault(identity.pid, [])
        self._processes.move_to_end(identity.pid)
        if entries and _is_nobody(entries[0].identity):
            entries.pop(0)  # asked for before it was met, as who listens is: it was this one
        place = len(entries)
        while place and entries[place - 1].since_ns > identity.time_ns:
            place -= 1
        if place and entries[place - 1].since_ns == identity.time_ns:
            place -= 1
            self._bytes -= entries.pop(place).size_bytes  # the same moment, told again in more detail
        if place and _same(entries[place - 1].identity, identity):
            return  # met again, nothing new: its resource stays the same object
        if place and _has_ended(identity, entries[place - 1].identity):
            return
        entry: _Entry[R] = _Entry(identity)
        entries.insert(place, entry)
        self._bytes += entry.size_bytes
        if len(entries) > MAX_PAST:
            self._bytes -= entries.pop(0).size_bytes
        while len(self._processes) > self._max or (self._bytes > self._max_bytes and len(self._processes) > 1):
            _, forgotten = self._processes.popitem(last=False)
            self._bytes -= sum(each.size_bytes for each in forgotten)

    def identity_of(self, pid: int, time_ns: int | None = None) -> Identity:
        """Who the process was at that time, or is now; an Identity of nothing but its id where it is not known."""
        entry = self._find(pid, time_ns)
        return Identity(pid=pid) if entry is None else entry.identity

    def matches(self, pid: int, wanted: Callable[[Identity], bool]) -> bool:
        """Whether the process, as it is now, is one of those that are wanted."""
        return wanted(self.identity_of(pid))

    def resource_of(self, pid: int, time_ns: int, endpoints: bytes) -> R:
        """The resource of what process `pid` did at that time, at a socket with these raw endpoints."""
        entry = self._find(pid, time_ns)
        if entry is None:
            return self._server(endpoints) if self._host.packets else self._nobody(pid)
        if entry.resource is None:
            entry.resource = self._make(resource_attributes(entry.identity, self._host, self._extra))
        return entry.resource

    def _find(self, pid: int, time_ns: int | None) -> _Entry[R] | None:
        entries = self._processes.get(pid)
        if entries is None:
            return None
        self._processes.move_to_end(pid)
        newest = entries[-1]
        if time_ns is None or newest.since_ns <= time_ns:
            return newest
        # A process acts before it is met; so the first identity known also holds before its time.
        return next((entry for entry in reversed(entries) if entry.since_ns <= time_ns), entries[0])

    def _nobody(self, pid: int) -> R:
        """A process that was never met, or was forgotten; what the kernel does on nobody's behalf has the id 0."""
        if pid:
            self.add(Identity(pid=pid))
            return self.resource_of(pid, 0, b"")
        if self._unknown is None:
            self._unknown = self._make(resource_attributes(_UNKNOWN, self._host, self._extra))
        return self._unknown

    def _server(self, endpoints: bytes) -> R:
        key = endpoints[:16] + endpoints[32:34]
        resource = self._servers.get(key)
        if resource is None:
            ends = parse_endpoints(endpoints)
            attributes = packet_attributes(ends.local_address, ends.local_port, self._host, self._extra)
            resource = self._servers[key] = self._make(attributes)
            if len(self._servers) > self._max:
                self._servers.popitem(last=False)
        self._servers.move_to_end(key)
        return resource


def _is_nobody(identity: Identity) -> bool:
    """What `_nobody()` made up; no process is without a name."""
    return not (identity.comm or identity.executable)


def _has_ended(now: Identity, before: Identity) -> bool:
    """Whether nothing can be read of a process any more of which something was known. (Its start is told by the tick
    when /proc was asked.)"""
    alike = now.comm == before.comm and abs(now.started_ns - before.started_ns) < _TICKS_NS
    return alike and not now.executable and bool(before.executable)


def _same(one: Identity, other: Identity) -> bool:
    """The same in everything but the time it was asked."""
    return msgspec.structs.replace(one, time_ns=other.time_ns) == other
