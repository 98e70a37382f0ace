"""What looking into TLS costs: HTTPS on nginx, and how much of it is the trap of a uprobe, whatever runs behind it."""

from __future__ import annotations

import subprocess

import msgspec

from benchmarks.harness import Bench, Run, accounts, traced, untraced, watch
from benchmarks.kept import kept, rate
from benchmarks.load import Opened, wrk, wrk_command
from benchmarks.machine import bpf_stats
from benchmarks.programs import CannotRun, c_program
from benchmarks.report import Figure, Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink

CONNECTIONS = 32
PLAIN, TRACED = "untraced", "traced"
PHYSICAL_US = 1.3
"""What a trap costs on a physical machine, about."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A traced run in which the kernel counted."""

    run: Run
    hits: float
    """Runs of programs on uprobes, per request."""
    own_us: float
    """Their own time, per request."""


class Trap(msgspec.Struct, frozen=True):
    """Nanoseconds that uprobes with only a counter of the kernel's behind them add to a call: at its entry,
    or at its entry and its return. The function's first instruction is emulated by the kernel or stepped over."""

    emulated_entry: float
    emulated_both: float
    stepped_entry: float
    stepped_both: float


def measure(bench: Bench) -> Result:
    """nginx untraced and traced in turns; then a run that is counted. wrk uses the same library: it is trapped too."""
    seconds = bench.seconds(4)
    with Sink(bench.folder) as sink, Nginx(bench.folder, also="ssl") as nginx:

        def load() -> Opened:
            return wrk(nginx.other_url, connections=CONNECTIONS, seconds=seconds)

        runs = bench.take_turns(
            bench.rounds(3),
            {PLAIN: lambda: untraced(nginx, load()), TRACED: lambda: traced(bench, nginx, load(), sink=sink)},
        )
        counted = bench.take_turns(bench.rounds(2), {"counted": lambda: _counted(bench, nginx, load(), sink)})[
            "counted"
        ]
        traps = bench.take_turns(bench.rounds(3), {"trap": _trap})["trap"]
    return Result(
        name="tls",
        question="what does a saturated nginx keep that speaks TLS, and how much of the cost is the trap itself?",
        commands=[
            " ".join(wrk_command("https://127.0.0.1:PORT/", connections=CONNECTIONS, seconds=seconds)),
            "otelbpf run --export otlp --pid NGINX --pid WORKER",
        ],
        figures=[
            rate(PLAIN, runs[PLAIN]),
            *kept(TRACED, runs[PLAIN], runs[TRACED], aims=("", "")),
            *_traps(runs, counted, traps),
        ],
        accounts=accounts(runs | {"counted": [each.run for each in counted]}),
        notes=[
            f"On a physical machine a trap costs about {PHYSICAL_US} us; a call that is looked into costs two.",
            "SSL_read and SSL_write of Debian's OpenSSL 3 begin with an instruction that is stepped over: a trap more.",
            "wrk's calls are trapped like nginx's, for the library is one file; so hits and costs are those of both.",
        ],
    )


def _traps(runs: dict[str, list[Run]], counted: list[Counted], traps: list[Trap]) -> list[Figure]:
    added = [_both_us(b) - _both_us(a) for a, b in zip(runs[PLAIN], runs[TRACED], strict=True)]
    hits = figure("hits of uprobes, at nginx and at wrk", "/request", [each.hits for each in counted])
    both = figure("traps alone, of a call: stepped over", "us", [trap.stepped_both / 1000 for trap in traps])
    whole = figure("nginx and wrk added", "us/request", added)
    trapped = hits.median / 2 * both.median
    return [
        hits,
        figure("traps alone, of a call: emulated", "us", [trap.emulated_both / 1000 for trap in traps]),
        both,
        figure("one trap: emulated", "us", [trap.emulated_entry / 1000 for trap in traps]),
        figure("one trap: stepped over", "us", [trap.stepped_entry / 1000 for trap in traps]),
        whole,
        figure("of it traps", "us/request", [trapped]),
        figure("of it traps", "%", [100 * trapped / whole.median]),
        figure("of it programs", "us/request", [each.own_us for each in counted]),
    ]


def _both_us(run: Run) -> float:
    """What a request costs nginx and wrk."""
    return run.server_us + run.load.cpu_seconds * 1e6 / run.load.requests


def _counted(bench: Bench, nginx: Nginx, opened: Opened, sink: Sink) -> Counted:
    with bpf_stats(), bench.collector(nginx, sink=sink) as collector:
        if "tier=tracepoint" not in collector.ready_line:
            raise CannotRun("hits of uprobes are told from those of kprobes only where there are none of these")
        told: list[tuple[int, float]] = []
        run = watch(collector, nginx, opened, sink=sink, before_end=lambda: told.append(collector.uprobe_runs()))
    ((hits, took),) = told
    return Counted(run=run, hits=hits / run.load.requests, own_us=took * 1e6 / run.load.requests)


def _trap() -> Trap:
    done = subprocess.run([str(c_program("trap"))], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun(f"trap: {done.stderr.strip()}")
    return msgspec.json.decode(done.stdout, type=Trap)
