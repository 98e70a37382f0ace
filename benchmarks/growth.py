"""Whether a request costs the same however many connections there are."""

from __future__ import annotations

from benchmarks.harness import Bench, Run, accounts, traced, untraced
from benchmarks.load import Steady
from benchmarks.report import Figure, Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

RATE = 10_000
CONNECTIONS = (1, 10, 100, 1000, 10_000)


def measure(bench: Bench) -> Result:
    """The same rate over more and more connections."""
    seconds = bench.seconds(4)
    runs: dict[str, list[Run]] = {}
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx:
        for connections in CONNECTIONS:

            def load(connections: int = connections) -> Steady:
                return Steady(
                    nginx.port, rate=RATE, seconds=seconds, connections=connections, burst=max(RATE // 1000, 1)
                )

            command = load().command
            runs |= bench.take_turns(
                bench.rounds(2),
                {
                    f"{connections:,} connections, untraced": lambda: untraced(nginx, load()),
                    f"{connections:,} connections, traced": lambda: traced(bench, nginx, load(), sink=sink),
                },
            )
    return Result(
        name="growth",
        question=f"does a request cost the same at {RATE:,} a second over 1 and over 10,000 connections?",
        commands=[" ".join(command), "otelbpf run --export otlp --pid NGINX --pid WORKER"],
        figures=[each for connections in CONNECTIONS for each in _figures(f"{connections:,} connections", runs)],
        accounts=accounts(runs),
        notes=["opening the connections, their first request, and closing them is not within the figures"],
    )


def _figures(name: str, runs: dict[str, list[Run]]) -> list[Figure]:
    plain, watched = runs[f"{name}, untraced"], runs[f"{name}, traced"]
    added = [b.server_us - a.server_us for a, b in zip(plain, watched, strict=True)]
    return [
        figure(f"{name}: nginx untraced", "us/request", [run.server_us for run in plain]),
        figure(f"{name}: nginx added", "us/request", added),
        figure(f"{name}: collector", "us/span", [run.collector_us for run in watched]),
    ]
