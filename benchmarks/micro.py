"""What each stage costs: synthetic records through the real pipeline, microseconds per exchange and stage.

    python -m benchmarks.micro [--rounds 9] [--profile STAGE]

No kernel and no root. A stage's price is the difference between two runs of which the second has that stage too. All
runs take turns, and of several rounds the fastest counts, in processor time, because whatever disturbs can only make it
slower. The parser's price alone stands beside, as a part of the session's.
"""

from __future__ import annotations

import cProfile
import gc
import mmap
import os
import pstats
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import click
from hpack import NeverIndexedHeaderTuple
from rich.console import Console
from rich.table import Table

from benchmarks.http2 import MESSAGE
from benchmarks.report import number
from otelbpf.events.decode import decode
from otelbpf.events.traffic import Data
from otelbpf.events.wire import Flag
from otelbpf.exporters.encode import ProtobufEncoder
from otelbpf.pipeline import Pipeline
from otelbpf.protocols.base import Side
from otelbpf.protocols.http1 import Http1
from otelbpf.protocols.http2 import Http2
from otelbpf.protocols.http2_frames import PREFACE
from otelbpf.sources.ring import Ring
from otelbpf.telemetry.ledger import Ledger
from otelbpf.tracing.conventions.http import WANTED_HEADERS
from otelbpf.tracing.span import Span
from tests.fake_kernel import FakeKernel, FakeSource
from tests.h2_talk import Talk

CONNECTIONS = 64
EXCHANGES = 100
"""Of each connection."""
BATCH_RECORDS = 512
"""As the live source takes them from the ring."""

WRK = b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
NGINX = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 22:24:%02d GMT\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n"
)
SERVICE = (
    b"POST /api/orders/%d/items?user=%d&token=abc HTTP/1.1\r\nHost: orders.internal:8080\r\n"
    b"User-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Content-Type: application/json\r\nContent-Length: 27\r\nX-Request-Id: 0f8fad5b-d9cb-469f-a165-%012d\r\n"
    b"traceparent: 00-%032x-%016x-01\r\nCookie: session=8f14e45fceea167a5a36dedd4bea2543\r\n\r\n"
    b'{"article": 7, "number": 1}'
)
CREATED = (
    b"HTTP/1.1 201 Created\r\nDate: Sun, 22 Nov 2026 22:24:%02d GMT\r\nServer: gunicorn\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nX-Request-Id: %012d\r\n\r\n"
    b'13\r\n{"order": 12345678}\r\n0\r\n\r\n'
)

Run = Callable[[list[bytes]], None]


def wrk_on_nginx(kernel: FakeKernel) -> None:
    """What `scripts/bench saturated` does: short heads, nothing new but the path."""
    sockets = [kernel.accept(peer_port=40000 + index) for index in range(CONNECTIONS)]
    for turn in range(EXCHANGES):
        for socket in sockets:
            socket.receive(WRK % 7).send(NGINX % (turn % 60))


def services(kernel: FakeKernel) -> None:
    """Longer heads, each with ids of its own, a body, a chunked answer, a parent to honour."""
    sockets = [kernel.accept(peer_port=40000 + index) for index in range(CONNECTIONS)]
    for turn in range(EXCHANGES):
        for index, socket in enumerate(sockets, 1):
            unique = turn * CONNECTIONS + index
            socket.receive(SERVICE % (unique, index, unique, unique, unique))
            socket.send(CREATED % (turn % 60, unique))


def both_ends(kernel: FakeKernel) -> None:
    """Client and server on this host: two spans a request, joined. Half as many requests, as many exchanges."""
    pairs = [kernel.pair(port=40000 + index) for index in range(CONNECTIONS // 2)]
    for turn in range(EXCHANGES):
        for client, server in pairs:
            client.send(WRK % 7)
            server.receive(WRK % 7).send(NGINX % (turn % 60))
            client.receive(NGINX % (turn % 60))


def a_connection_each(kernel: FakeKernel) -> None:
    """A new connection for every request."""
    for index in range(CONNECTIONS * EXCHANGES):
        kernel.accept(peer_port=1 + index % 65000).receive(WRK % 7).send(NGINX % 1).close()


def h2load_on_nginx(kernel: FakeKernel) -> None:
    """What `scripts/bench http2` does: an answer of two calls, whose head refers to no head before it."""
    talks = [Talk(kernel, port=40000 + index) for index in range(CONNECTIONS)]
    for turn in range(EXCHANGES):
        for talk in talks:
            number = talk.ask("/", headers=[("user-agent", "h2load nghttp2/1.52.0")])
            told = {
                "server": "nginx/1.22.1",
                "date": f"Sun, 22 Nov 2026 22:24:{turn % 60:02} GMT",
                "content-length": "3",
            }
            talk.answer(number, end=False, headers=map(NeverIndexedHeaderTuple, told, told.values()))
            talk.more(number, b"ok\n", from_client=False, end=True)


def calls(kernel: FakeKernel) -> None:
    """gRPC: a message each way, then trailers."""
    talks = [Talk(kernel, port=40000 + index) for index in range(CONNECTIONS)]
    fields = [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1.76.0")]
    for _ in range(EXCHANGES):
        for talk in talks:
            number = talk.ask("/shop.Stock/Unary", method="POST", body=MESSAGE, headers=fields)
            talk.answer(number, 200, MESSAGE, headers=fields[:1], trailers=[("grpc-status", "0"), ("grpc-message", "")])


WORKLOADS = (wrk_on_nginx, services, both_ends, a_connection_each, h2load_on_nginx, calls)


def _discard(spans: Sequence[Span]) -> None:
    return


def _batches(records: list[bytes]) -> Iterator[list[bytes]]:
    return (records[at : at + BATCH_RECORDS] for at in range(0, len(records), BATCH_RECORDS))


def ring(records: list[bytes]) -> Callable[[], None]:
    """Out of a ring buffer: a file in memory with the layout of the kernel's."""
    size = 1 << 26
    descriptor = os.memfd_create("ring")
    os.ftruncate(descriptor, 2 * mmap.PAGESIZE + 2 * size)
    with mmap.mmap(descriptor, 0) as whole:
        at = 2 * mmap.PAGESIZE
        for record in records:
            struct.pack_into("<II", whole, at, len(record), 0)
            whole[at + 8 : at + 8 + len(record)] = record
            at += (len(record) + 15) & ~7
        struct.pack_into("<Q", whole, mmap.PAGESIZE, at - 2 * mmap.PAGESIZE)
    reader = Ring(descriptor, size)
    os.close(descriptor)

    def run() -> None:
        while reader.read(BATCH_RECORDS):
            continue
        reader.close()

    return run


def decoding(records: list[bytes]) -> Callable[[], None]:
    """Bytes to events."""

    def run() -> None:
        for record in records:
            decode(record)

    return run


def parser(records: list[bytes]) -> Callable[[], None]:
    """The protocol alone, given the bytes in order."""
    parsers: dict[bytes, Http1 | Http2] = {}
    pieces = []
    for event in map(decode, records):
        if type(event) is Data:
            if event.key not in parsers:
                kind = Http2 if event.data.startswith(PREFACE) else Http1
                parsers[event.key] = kind(wanted=WANTED_HEADERS)
            serving, sent = bool(event.flags & Flag.SERVER), bool(event.flags & Flag.SENT)
            side = Side.SERVER if serving is sent else Side.CLIENT
            pieces.append((parsers[event.key].receive, side, event.data))

    def run() -> None:
        for receive, side, data in pieces:
            receive(side, data)

    return run


def fed(emit: Callable[[], Callable[[Sequence[Span]], None]]) -> Callable[..., Callable[[], None]]:
    """The pipeline, and what it emits to."""

    def prepare(records: list[bytes]) -> Callable[[], None]:
        pipeline = Pipeline(ledger=Ledger(), emit=emit(), source=FakeSource(), seed=1)

        def run() -> None:
            for batch in _batches(records):
                pipeline.feed(batch)

        return run

    return prepare


def _encode() -> Callable[[Sequence[Span]], None]:
    encoder = ProtobufEncoder(version="0")

    def emit(spans: Sequence[Span]) -> None:
        encoder.encode(spans)

    return emit


def _encode_and_assemble() -> Callable[[Sequence[Span]], None]:
    encoder = ProtobufEncoder(version="0")

    def emit(spans: Sequence[Span]) -> None:
        encoder.assemble(encoder.encode(spans))

    return emit


ALONE = {"ring": ring, "parser": parser}
"""Stages measured by themselves."""
UP_TO = {
    "decode": decoding,
    "pipeline": fed(lambda: _discard),
    "encode": fed(_encode),
    "assemble": fed(_encode_and_assemble),
}
"""Runs of which each goes one stage further."""


def records_of(workload: Callable[[FakeKernel], None]) -> tuple[list[bytes], int]:
    """The records of a workload, and how many exchanges they tell; every one of them must become a span."""
    kernel = FakeKernel()
    kernel.process(100, "/usr/sbin/nginx")
    kernel.process(200, "/usr/bin/curl")
    workload(kernel)
    spans = len(kernel.spans())
    if spans != CONNECTIONS * EXCHANGES:
        raise click.ClickException(f"{workload.__name__}: {spans} spans of {CONNECTIONS * EXCHANGES} exchanges")
    return kernel.records, spans


def costs(records: list[bytes], exchanges: int, rounds: int) -> dict[str, float]:
    """Microseconds per exchange, by stage; Python's collector of garbage looks as seldom as in a live run."""
    gc.freeze()
    gc.set_threshold(50_000, 25, 50)
    fastest = dict.fromkeys(ALONE | UP_TO, float("inf"))
    for _ in range(rounds):
        for name, prepare in (ALONE | UP_TO).items():
            run = prepare(records)
            gc.collect()
            begun = time.thread_time()
            run()
            fastest[name] = min(fastest[name], time.thread_time() - begun)
    each = {name: seconds * 1e6 / exchanges for name, seconds in fastest.items()}
    before = 0.0
    stages = {"ring": each["ring"]}
    for name in UP_TO:
        stages[name], before = each[name] - before, each[name]
    stages["all"] = each["ring"] + before
    stages["(parser alone)"] = each["parser"]
    return stages


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Of which the fastest counts.")
@click.option("--profile", type=click.Choice(list(UP_TO)), help="Show where the time goes up to this stage.")
@click.option("--workload", type=click.Choice([each.__name__ for each in WORKLOADS]), help="Only this one.")
def main(rounds: int, profile: str | None, workload: str | None) -> None:
    """What each stage costs per exchange."""
    console = Console(highlight=False)
    chosen = [each for each in WORKLOADS if workload in (None, each.__name__)]
    if profile is not None:
        for each in chosen:
            records, _ = records_of(each)
            run = UP_TO[profile](records)
            profiler = cProfile.Profile()
            profiler.runcall(run)
            console.print(each.__name__)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        return
    table = Table(title="microseconds per exchange")
    found = []
    for each in chosen:
        records, exchanges = records_of(each)
        found.append(costs(records, exchanges, rounds))
    table.add_column("stage")
    for each in chosen:
        table.add_column(each.__name__, justify="right")
    for stage in found[0]:
        table.add_row(stage, *[number(each[stage]) for each in found])
    console.print(table)


if __name__ == "__main__":
    main()
