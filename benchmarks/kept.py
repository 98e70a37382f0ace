"""What a server keeps of its throughput: the figures of runs in pairs, untraced and traced."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Run
from benchmarks.report import Figure, figure


def rate(name: str, runs: Sequence[Run]) -> Figure:
    """Requests a second."""
    return figure(f"{name}: requests a second", "1/s", [run.load.per_second for run in runs])


def kept(
    name: str, plain: Sequence[Run], watched: Sequence[Run], *, server: str = "nginx", aims: Sequence[str] = ()
) -> list[Figure]:
    """All there is to say of `watched`, beside the `plain` runs they took turns with. `aims`: of what is kept, and of
    the collector's cost; with aims every request is to become a span."""
    aim, cost_aim = aims or ("", "")
    pairs = list(zip(plain, watched, strict=True))
    return [
        rate(name, watched),
        figure(f"{name}: kept", "%", [100 * b.load.per_second / a.load.per_second for a, b in pairs], aim),
        figure(
            f"{name}: requests that became spans",
            "%",
            [100 * run.account.spans / (run.account.served * run.account.ends) for run in watched if run.account],
            "100" if aims else "",
        ),
        figure(f"{name}: {server} added", "us/request", [b.server_us - a.server_us for a, b in pairs]),
        figure(f"{name}: collector", "us/span", [run.collector_us for run in watched], cost_aim),
        figure(f"{name}: collector's share of a processor", "%", [100 * run.collector_share for run in watched]),
        figure(f"{name}: busy after the load", "s", [run.drain_seconds for run in watched]),
    ]
