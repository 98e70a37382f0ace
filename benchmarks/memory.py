"""What the collector holds at its start, after a minute of full load, and half a minute of it later."""

from __future__ import annotations

import time

from benchmarks.harness import SETTLE_SECONDS, Bench, Tally
from benchmarks.load import wrk, wrk_command
from benchmarks.machine import Memory
from benchmarks.report import Figure, Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

CONNECTIONS = 64
MEGABYTE = 1e6


def measure(bench: Bench) -> Result:
    """Memory of all the collector's processes."""
    spells = (bench.seconds(60), bench.seconds(30))
    seen: dict[str, Memory] = {}
    made, lasted = 0, 0.0
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx, bench.collector(nginx, sink=sink) as collector:
        tally = Tally(collector, nginx, sink)
        collector.wait_until_idle()
        seen["after the start"] = collector.memory()
        for seconds in spells:
            bench.say(f"full load for {seconds:.0f} s")
            with wrk(nginx.url, connections=CONNECTIONS, seconds=seconds) as send:
                done = send()
            made, lasted = made + done.requests, lasted + seconds
            seen[f"after {lasted:.0f} s of full load"] = collector.memory()
        time.sleep(SETTLE_SECONDS)
        collector.wait_until_idle()
        seen["idle again"] = collector.memory()
        account = tally.close(made)
    (_, first, second, _) = seen.values()
    return Result(
        name="memory",
        question="what does the collector hold, and does it grow?",
        commands=[
            *(
                " ".join(wrk_command("http://127.0.0.1:PORT/", connections=CONNECTIONS, seconds=seconds))
                for seconds in spells
            ),
            "otelbpf run --export otlp --pid NGINX --pid WORKER",
        ],
        figures=[
            *(each for when, held in seen.items() for each in _figures(when, held)),
            figure(
                "anonymous, growth under the last spell of load",
                "MB",
                [(second.anonymous_bytes - first.anonymous_bytes) / MEGABYTE],
                "0",
            ),
        ],
        accounts={"traced": [account]},
    )


def _figures(when: str, held: Memory) -> list[Figure]:
    return [
        figure(f"anonymous, {when}", "MB", [held.anonymous_bytes / MEGABYTE], "<= 90"),
        figure(f"resident, {when}", "MB", [held.resident_bytes / MEGABYTE]),
    ]
