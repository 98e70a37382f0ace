"""How long a user waits for the first span."""

from __future__ import annotations

from benchmarks.harness import Bench
from benchmarks.report import Result, figure
from benchmarks.servers import Nginx


def measure(bench: Bench) -> Result:
    """From exec to the line that says that every probe is attached."""
    with Nginx(bench.folder) as nginx:

        def start() -> tuple[float, str]:
            with bench.collector(nginx, sink=None) as collector:
                line = collector.ready_line
                collector.end()
                return collector.ready_seconds, line

        runs = bench.take_turns(bench.rounds(5), {"start": start})["start"]
    return Result(
        name="start",
        question="how long from exec to `ready`?",
        commands=["otelbpf run --export file:/dev/null --pid NGINX --pid WORKER"],
        figures=[figure("exec to ready", "s", [seconds for seconds, _ in runs], "<= 2")],
        notes=[runs[-1][1]],
    )
