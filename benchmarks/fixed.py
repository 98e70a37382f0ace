"""What tracing adds to a server that is not at its limit: its own processor time, and its clients' waiting."""

from __future__ import annotations

import os

from benchmarks.harness import Bench, Run, accounts, traced, untraced
from benchmarks.load import Steady, wrk
from benchmarks.report import Figure, Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

CONNECTIONS = 32
SHARE = 0.2
"""Of what the server can do."""


def measure(bench: Bench) -> Result:
    """A fixed rate, untraced and traced in turns."""
    seconds = bench.seconds(5)
    # A client that spins measures best, but takes a processor away: on two, nginx and the collector would share one.
    spin = (os.cpu_count() or 1) > 2
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx:
        bench.say("the maximum")
        maximum = untraced(nginx, wrk(nginx.url, connections=CONNECTIONS, seconds=2)).load.per_second
        rate = max(round(maximum * SHARE, -2), 100)

        def load() -> Steady:
            return Steady(nginx.port, rate=int(rate), seconds=seconds, connections=CONNECTIONS, spin=spin)

        command = load().command
        runs = bench.take_turns(
            bench.rounds(4),
            {
                "untraced": lambda: untraced(nginx, load()),
                "traced": lambda: traced(bench, nginx, load(), sink=sink),
            },
        )
    plain, watched = runs["untraced"], runs["traced"]
    pairs = list(zip(plain, watched, strict=True))
    figures = [
        *_nginx("untraced", plain),
        *_nginx("traced", watched),
        figure("added: nginx", "us/request", [b.server_us - a.server_us for a, b in pairs], "<= 1.5"),
        *(
            figure(f"added: latency {name}", "us", [_latency(b, name) - _latency(a, name) for a, b in pairs], aim)
            for name, aim in (("p50", "<= 5"), ("p99", "<= 20"))
        ),
        figure("collector", "us/span", [run.collector_us for run in watched], "<= 12"),
        figure("collector's share of a processor", "%", [100 * run.collector_share for run in watched]),
    ]
    return Result(
        name="fixed",
        question=f"what does tracing add at {rate:,.0f} requests a second, {SHARE:.0%} of the maximum?",
        commands=[" ".join(command), "otelbpf run --export otlp --pid NGINX --pid WORKER"],
        figures=figures,
        accounts=accounts(runs),
        notes=[
            "latency counts from the moment a request was due; "
            + ("the client spins." if spin else "the client sleeps in between, and its waking up counts too."),
        ],
    )


def _nginx(name: str, runs: list[Run]) -> list[Figure]:
    return [
        figure(f"{name}: nginx", "us/request", [run.server_us for run in runs]),
        figure(f"{name}: latency p50", "us", [_latency(run, "p50") for run in runs]),
        figure(f"{name}: latency p99", "us", [_latency(run, "p99") for run in runs]),
    ]


def _latency(run: Run, quantile: str) -> float:
    return run.load.latency_us[quantile]
