"""Whether spans are lost in a minute of 50,000 requests a second, and whether each loss is on the account."""

from __future__ import annotations

from benchmarks.harness import Bench, accounts, traced, untraced
from benchmarks.load import Steady, wrk
from benchmarks.report import Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

RATE = 50_000
CONNECTIONS = 64
FEASIBLE = 0.8
"""Of what the server can do untraced: where that is less than RATE, the rate is this."""


def measure(bench: Bench) -> Result:
    """One long run."""
    seconds = bench.seconds(60)
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx:
        bench.say("the maximum")
        maximum = untraced(nginx, wrk(nginx.url, connections=CONNECTIONS, seconds=2)).load.per_second
        rate = min(RATE, int(maximum * FEASIBLE))
        load = Steady(nginx.port, rate=rate, seconds=seconds, connections=CONNECTIONS, burst=rate // 1000)
        bench.say(f"{rate:,} requests a second for {seconds:.0f} s")
        run = traced(bench, nginx, load, sink=sink)
    assert run.account is not None
    missing = run.account.served - run.account.spans
    return Result(
        name="endurance",
        question=f"are spans lost at {rate:,} requests a second for {seconds:.0f} s?",
        commands=[" ".join(load.command), "otelbpf run --export otlp --pid NGINX --pid WORKER"],
        figures=[
            figure("requests", "", [run.account.served]),
            figure("requests that became no span", "", [missing], "0, or counted"),
            figure("neither a span nor counted", "", [run.account.uncounted], "0"),
            figure("rate that was reached", "1/s", [run.load.per_second]),
            figure("collector", "us/span", [run.collector_us], "<= 12"),
            figure("collector's share of a processor", "%", [100 * run.collector_share]),
            figure("busy after the load", "s", [run.drain_seconds]),
        ],
        accounts=accounts({"traced": [run]}),
    )
