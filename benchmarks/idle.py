"""What a connection costs the collector that was used once and then stays open: memory, of HTTP/1 and of HTTP/2."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from hpack import Encoder

from benchmarks.account import Account
from benchmarks.harness import SETTLE_SECONDS, Bench, Tally
from benchmarks.programs import CannotRun
from benchmarks.report import Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink
from otelbpf.protocols import http2_frames as h2

CONNECTIONS = 2000
FIRST = 500
"""Opened and closed before: what the collector takes for its first connections it does not give back."""


def measure(bench: Bench) -> Result:
    """So many connections of each kind, with one request each, under a collector of their own."""
    with Sink(bench.folder) as sink, Nginx(bench.folder, also="http2") as nginx:
        found = bench.take_turns(
            bench.rounds(3),
            {
                "HTTP/1": lambda: _held(bench, nginx, sink, nginx.port, _ask_http1),
                "HTTP/2": lambda: _held(bench, nginx, sink, nginx.other_port, _ask_http2),
            },
        )
    return Result(
        name="idle",
        question=f"what does the collector hold for each of {CONNECTIONS:,} open connections that made one request?",
        commands=["otelbpf run --export otlp --pid NGINX --pid WORKER"],
        figures=[
            figure(f"an idle connection of {name}, anonymous", "bytes", [held / CONNECTIONS for held, _ in runs])
            for name, runs in found.items()
        ],
        accounts={name: [told for _, told in runs] for name, runs in found.items()},
    )


def _held(
    bench: Bench, nginx: Nginx, sink: Sink, port: int, ask: Callable[[socket.socket], None]
) -> tuple[int, Account]:
    """Bytes that the collector holds more with the connections open than before, and the run's account."""
    with bench.collector(nginx, sink=sink) as collector:
        tally = Tally(collector, nginx, sink)
        with _connections(port, FIRST, ask):
            pass
        collector.wait_until_idle()
        before = collector.memory().anonymous_bytes
        with _connections(port, CONNECTIONS, ask):
            time.sleep(SETTLE_SECONDS)
            collector.wait_until_idle()
            held = collector.memory().anonymous_bytes - before
        return held, tally.close(FIRST + CONNECTIONS)


@contextlib.contextmanager
def _connections(port: int, count: int, ask: Callable[[socket.socket], None]) -> Iterator[None]:
    """So many, open at once, each of which has asked."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            ask(stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)))
        yield


def _ask_http1(connection: socket.socket) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: idle\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok\n"):
        answer += _more(connection)


def _ask_http2(connection: socket.socket) -> None:
    """As a client does that stays: settings, one request, and the end of its answer is waited for."""
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "idle"), (":path", "/"), ("user-agent", "idle/1")]
    block = Encoder().encode(fields)
    request = _frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, block)
    connection.sendall(h2.PREFACE + _frame(h2.SETTINGS, 0, 0, b"") + request)
    answer, at, over = b"", 0, False
    while not over:
        answer += _more(connection)
        while len(answer) - at >= h2.HEADER_SIZE:
            length, kind, flags, _ = h2.read_header(answer, at)
            end = at + h2.HEADER_SIZE + length
            if end > len(answer):
                break
            over |= kind in (h2.DATA, h2.HEADERS) and bool(flags & h2.END_STREAM)
            at = end
    connection.sendall(_frame(h2.SETTINGS, h2.ACK, 0, b""))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise CannotRun("nginx closed a connection that was to stay open")
    return data
