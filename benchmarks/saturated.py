"""How much of its throughput a saturated server keeps while every request becomes a span."""

from __future__ import annotations

from collections import ChainMap
from functools import partial

from benchmarks.harness import Bench, Run, accounts, traced, untraced
from benchmarks.kept import kept, rate
from benchmarks.load import wrk, wrk_command
from benchmarks.report import Result
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

CONNECTIONS = 32
PLAIN, TRACED, FILE, BOTH = "untraced", "traced", "traced, JSON to file:/dev/null", "both ends traced"


def measure(bench: Bench) -> Result:
    """nginx at its limit, untraced and traced in turns."""
    seconds = bench.seconds(4)
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx:

        def plain(connections: int) -> Run:
            return untraced(nginx, wrk(nginx.url, connections=connections, seconds=seconds))

        def watched(connections: int, to: Sink | None = sink, *, both_ends: bool = False) -> Run:
            load = wrk(nginx.url, connections=connections, seconds=seconds)
            return traced(bench, nginx, load, sink=to, both_ends=both_ends)

        runs = bench.take_turns(
            bench.rounds(3),
            {
                PLAIN: lambda: plain(CONNECTIONS),
                TRACED: lambda: watched(CONNECTIONS),
                FILE: lambda: watched(CONNECTIONS, None),
                BOTH: lambda: watched(CONNECTIONS, both_ends=True),
            },
        )
        others = [
            bench.take_turns(
                2,
                {
                    f"{PLAIN}, {connections} connections": partial(plain, connections),
                    f"{TRACED}, {connections} connections": partial(watched, connections),
                },
            )
            for connections in (() if bench.quick else (16, 64))
        ]
    figures = [rate(PLAIN, runs[PLAIN])]
    for name in (TRACED, FILE, BOTH):
        figures += kept(name, runs[PLAIN], runs[name], aims=(">= 40", "<= 12") if name == TRACED else ())
    for (plain_name, plain_runs), (name, watched_runs) in (several.items() for several in others):
        figures += [rate(plain_name, plain_runs), *kept(name, plain_runs, watched_runs)]
    return Result(
        name="saturated",
        question="how much of its throughput does a saturated nginx (1 worker, `return 200`) keep?",
        commands=[
            " ".join(wrk_command("http://127.0.0.1:PORT/", connections=CONNECTIONS, seconds=seconds)),
            "otelbpf run --export otlp --pid NGINX --pid WORKER      (http/protobuf, to a backend that counts)",
            "otelbpf run --export otlp --port PORT                   (both ends)",
        ],
        figures=figures,
        accounts=accounts(dict(ChainMap(*others, runs))),
        notes=[
            "both ends: wrk's last requests, under way when it ended, are spans of it that nginx may never have read.",
        ],
    )
