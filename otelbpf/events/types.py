"""Events: decoded records, frozen. Times are nanoseconds of the source's monotonic clock until a `Clock` says more."""

from __future__ import annotations

import msgspec

from otelbpf.events.traffic import Data, State
from otelbpf.events.wire import TlsEvent


class Tls(msgspec.Struct, frozen=True, gc=False):
    """Something about a TLS session, told by `key`; the counters stand as struct tls_record documents them."""

    key: bytes
    time_ns: int
    pid: int
    tid: int
    flags: int
    endpoints: bytes
    carrier: bytes
    """Key of the socket that carries it; NO_CARRIER while it is not known."""
    sent: int
    received: int
    lost_sent: int
    lost_received: int
    muted_sent: int
    muted_received: int
    event: TlsEvent


NO_CARRIER = bytes(16)


class ProcessSeen(msgspec.Struct, frozen=True, gc=False):
    """The kernel met process `pid` at a traced socket for the first time, or for the first time since its exec."""

    time_ns: int
    pid: int
    started_ns: int
    cgroup: int
    comm: str
    forked_from: int = 0
    """The process whose program it runs: its parent, where it has executed nothing since it was forked; or 0."""


class Clock(msgspec.Struct, frozen=True, gc=False):
    """At monotonic `time_ns`, Unix time was `time_ns + offset_ns`."""

    time_ns: int
    offset_ns: int


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What user space could read about a process (proc(5)); empty where it was already gone or may not be read."""

    pid: int
    started_ns: int = 0
    time_ns: int = 0
    """When the identity held: a process that execs has a later one from then on."""
    comm: str = ""
    executable: str = ""
    """Target of /proc/PID/exe, without a trailing ' (deleted)'."""
    command: tuple[str, ...] = ()
    """Arguments, cut to a bounded length each and in number, secrets redacted."""
    parent_pid: int = 0
    owner: str = ""
    """User name, or the number where it has none."""
    container_id: str = ""
    workload: dict[str, str] = {}
    """What is known of its container and pod, by the names of resource attributes; of image tags the one it was
    started by."""
    systemd_unit: str = ""
    """Without its suffix: nginx for nginx.service."""
    environment: dict[str, str] = {}
    """Only OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES."""
    runtime_name: str = ""
    """process.runtime.name where the executable tells it: cpython, nodejs, go, …"""


class Losses(msgspec.Struct, frozen=True, gc=False):
    """The kernel's loss counters since the probes were loaded; (events, bytes) by `wire.Loss`."""

    time_ns: int
    counts: tuple[tuple[int, int], ...]


class Listener(msgspec.Struct, frozen=True, gc=False):
    """How it stood with a listening socket at `time_ns`."""

    key: bytes
    time_ns: int
    pid: int
    """Who called listen(); 0 where that was before the probes."""
    endpoints: bytes
    depth: int
    """Connections that wait to be accepted."""
    deepest: int
    """The most since the record before."""
    limit: int
    """The backlog."""
    dropped: int
    """Connections and SYNs the kernel has thrown away there, modulo 2^32: most of them because the queue was full."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process has come to at `time_ns`; every number grows for as long as it lives."""

    pid: int
    started: int
    """Start time in the kernel's own ticks: tells it from the next process of that number."""
    time_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    delayed_ns: int = -1
    """How long its threads waited to be run, since it was first looked at; -1 not known."""
    cgroup: str = ""
    throttled_periods: int = 0
    """Of its cgroup and those above."""
    throttled_ns: int = 0


class Refusals(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the listening sockets of a network namespace have thrown away until `time_ns`, since it was made."""

    namespace: int
    """Inode number."""
    time_ns: int = 0
    overflows: int = 0
    """ListenOverflows of /proc/PID/net/netstat: an accept queue was full."""
    drops: int = 0
    """ListenDrops: for any reason, that one included."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a name server said to somebody on this host."""

    time_ns: int
    message: bytes
    """RFC 1035 section 4.1"""


class Host(msgspec.Struct, frozen=True, omit_defaults=True):
    """The machine the records come from."""

    name: str = ""
    id: str = ""
    """/etc/machine-id"""
    arch: str = ""
    """host.arch: amd64, arm64, …"""
    os_type: str = "linux"
    os_version: str = ""
    packets: bool = False
    """The records were made from packets: no process is known, each exchange is seen once."""
    addressed_only: bool = False
    """Connections were chosen by their addresses: what has none cannot be said to be among them."""


Event = Data | State | Tls | ProcessSeen | Clock | Identity | Losses | Host | Listener | Usage | Refusals | Answer
