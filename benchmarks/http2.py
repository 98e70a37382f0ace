"""What HTTP/2 and gRPC cost: one server, saturated over few connections with one, ten and a hundred streams at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import Bench, Run, accounts, traced, untraced
from benchmarks.kept import kept, rate
from benchmarks.load import Load, Opened, h2load, h2load_command
from benchmarks.report import Figure, Result
from benchmarks.servers import Grpc, Nginx, Server
from benchmarks.sink import Sink

CONNECTIONS = 16
STREAMS = (1, 10, 100)
REQUESTS_A_SECOND = 80_000
CALLS_A_SECOND = 40_000
"""About what nginx, and grpc-go, can: a run is so many for each second it is to last untraced."""
MESSAGE = b"\0\0\0\0\x0a0123456789"
"""What a call asks with: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message."""


def measure(bench: Bench) -> Result:
    """nginx, which answers each stream by two calls of its own."""
    requests = int(bench.seconds(4) * REQUESTS_A_SECOND)
    with Sink(bench.folder) as sink, Nginx(bench.folder, also="http2") as nginx:

        def load(streams: int) -> Opened:
            return h2load(nginx.other_url, connections=CONNECTIONS, streams=streams, requests=requests)

        runs = _by_streams(bench, nginx, sink, load)
    return Result(
        name="http2",
        question="what does a saturated nginx keep that speaks HTTP/2, and what does a span of it cost?",
        commands=[*_commands("http://127.0.0.1:PORT/", requests), "otelbpf run --export otlp --pid NGINX --pid WORKER"],
        figures=_figures(runs, "nginx", aims=("", "<= 20")),
        accounts=accounts(runs),
    )


def measure_grpc(bench: Bench) -> Result:
    """grpc-go, which has a thread for each processor."""
    requests = int(bench.seconds(4) * CALLS_A_SECOND)
    message = bench.folder / "message"
    message.write_bytes(MESSAGE)
    with Sink(bench.folder) as sink, Grpc(bench.folder) as server:

        @contextmanager
        def load(streams: int) -> Iterator[Callable[[], Load]]:
            more = _of_call(message)
            with h2load(server.url, connections=CONNECTIONS, streams=streams, requests=requests, more=more) as send:

                def counted() -> Load:
                    done = send()
                    server.answered += done.requests
                    return done

                yield counted

        runs = _by_streams(bench, server, sink, load)
    return Result(
        name="grpc",
        question="what does a saturated gRPC server in Go keep, and what does a call's span cost?",
        commands=[
            *_commands("http://127.0.0.1:PORT/shop.Stock/Unary", requests, _of_call(Path("MESSAGE"))),
            "otelbpf run --export otlp --pid SERVER",
        ],
        figures=_figures(runs, "server", aims=("", "<= 20")),
        accounts=accounts(runs),
        notes=["served is h2load's count of its answers: the server has none of its own."],
    )


def _of_call(message: Path) -> list[str]:
    return ["-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers"]


def _commands(url: str, requests: int, more: Sequence[str] = ()) -> list[str]:
    return [
        " ".join(h2load_command(url, connections=CONNECTIONS, streams=streams, requests=requests, more=more))
        for streams in STREAMS
    ]


def _by_streams(bench: Bench, server: Server, sink: Sink, load: Callable[[int], Opened]) -> dict[str, list[Run]]:
    """Untraced and traced in turns, for each number of streams."""

    def plain(streams: int) -> Run:
        return untraced(server, load(streams))

    def watched(streams: int) -> Run:
        return traced(bench, server, load(streams), sink=sink)

    runs: dict[str, list[Run]] = {}
    for streams in STREAMS:
        runs |= bench.take_turns(
            bench.rounds(3),
            {f"{streams} streams, untraced": partial(plain, streams), f"{streams} streams": partial(watched, streams)},
        )
    return runs


def _figures(runs: dict[str, list[Run]], server: str, *, aims: Sequence[str]) -> list[Figure]:
    figures = []
    for streams in STREAMS:
        name = f"{streams} streams"
        figures.append(rate(f"{name}, untraced", runs[f"{name}, untraced"]))
        figures += kept(name, runs[f"{name}, untraced"], runs[name], server=server, aims=aims)
    return figures
