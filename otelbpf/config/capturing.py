"""What is traced, what is copied, and how much of it is kept."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from otelbpf.config.forms import SECONDS, SIZE, SWITCH, TEXT, WHOLE, choice, list_of
from otelbpf.config.source import GIB, KIB, MIB, Source

Port = Annotated[int, Meta(ge=1, le=65535)]
Pid = Annotated[int, Meta(ge=1, le=1 << 22)]


class Filters(msgspec.Struct, frozen=True):
    """Which connections are traced; within a setting any match is enough, across settings all must match."""

    ports: Annotated[
        tuple[Port, ...],
        Meta(
            description="Trace only connections with one of these ports at either end; empty: every port.",
            max_length=64,
        ),
        Source(list_of(WHOLE), flag="--port"),
    ] = ()
    executables: Annotated[
        tuple[str, ...],
        Meta(
            description="Trace only processes whose executable's path matches one of these globs; empty: all.",
            max_length=64,
        ),
        Source(list_of(TEXT), flag="--exe"),
    ] = ()
    pids: Annotated[
        tuple[Pid, ...],
        Meta(description="Trace only these processes, by pid; empty: all.", max_length=1024),
        Source(list_of(WHOLE), flag="--pid"),
    ] = ()
    cgroups: Annotated[
        tuple[str, ...],
        Meta(
            description="Trace only processes in these cgroups or below, by path in /sys/fs/cgroup; empty: all.",
            max_length=64,
        ),
        Source(list_of(TEXT), flag="--cgroup"),
    ] = ()


class Capture(msgspec.Struct, frozen=True):
    """What the probes copy and where they put it."""

    tier: Annotated[
        str,
        Meta(
            description="The probes' technique; auto takes kprobe where the kernel has kprobes, otherwise tracepoint."
        ),
        Source(choice("auto", "kprobe", "tracepoint"), flag="--tier"),
    ] = "auto"
    tls: Annotated[
        bool,
        Meta(description="Read the plain text of TLS where programs hand it to OpenSSL or GnuTLS (uprobes)."),
        Source(SWITCH),
    ] = True
    socket_waits: Annotated[
        bool,
        Meta(description="Note what becomes readable: waiting requests, accept queues, answers of name servers."),
        Source(SWITCH),
    ] = True
    head_limit_bytes: Annotated[
        int,
        Meta(
            description="How much of a message's beginning is copied; a longer head gives a span that says so.",
            ge=256,
            le=32 * KIB,
        ),
        Source(SIZE),
    ] = 8 * KIB
    ring_bytes: Annotated[
        int,
        Meta(
            description="The ring buffer between kernel and collector, a power of two; locked memory.",
            ge=64 * KIB,
            le=2 * GIB,
        ),
        Source(SIZE),
    ] = 64 * MIB
    sockets: Annotated[
        int,
        Meta(
            description="How many sockets the kernel's table holds; beyond that connections are counted as not seen.",
            ge=1024,
            le=1 << 22,
        ),
        Source(WHOLE),
    ] = 65536
    duration_seconds: Annotated[
        float,
        Meta(description="Stop by itself after this time; 0: run until a signal comes.", ge=0, le=366 * 86400),
        Source(SECONDS, flag="--duration"),
    ] = 0.0


class Limits(msgspec.Struct, frozen=True):
    """Bounds of what the collector keeps in memory; what falls out is counted, with the reason `evicted`."""

    connections: Annotated[
        int,
        Meta(
            description="How many connections are followed at once; beyond it the longest idle one goes.",
            ge=16,
            le=1 << 22,
        ),
        Source(WHOLE),
    ] = 65536
    pending_exchanges: Annotated[
        int,
        Meta(description="How many requests of one connection may wait for their responses.", ge=1, le=65536),
        Source(WHOLE),
    ] = 1024
    head_bytes: Annotated[
        int,
        Meta(
            description="The longest head a parser gathers, over however many reads it arrives.", ge=1 * KIB, le=1 * MIB
        ),
        Source(SIZE),
    ] = 64 * KIB
