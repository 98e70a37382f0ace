"""The collector that is measured: `otelbpf run` as a user starts it, what it spent, and what its closing sheet says."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import machine
from benchmarks.programs import ROOT, CannotRun
from benchmarks.sink import Sink
from integration.harness import balance
from integration.harness.processes import Running, free_port, wait_for

IDLE_SHARE = 0.03
"""Of one processor: a collector that takes less has nothing left to do."""
IDLE_SECONDS = 0.5
READY_SECONDS = 30
DRAIN_SECONDS = 60


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What is known once it has ended."""

    sheet: balance.Sheet
    metrics: dict[str, float]
    """A last look at /metrics before the end; a name with its labels to its value."""


class Collector:
    """`otelbpf run`. Entering waits for `ready`; `end` ends it as a user would."""

    def __init__(self, folder: Path, *filters: str, sink: Sink | None, nice: int = 0) -> None:
        """Spans go to `sink` over OTLP/HTTP, or into a file that forgets them."""
        self.port = free_port()
        export = "otlp" if sink is not None else "file:/dev/null"
        words = ["run", "--export", export, *filters, "--listen", f"127.0.0.1:{self.port}"]
        self.command = " ".join(["otelbpf", *words])
        argv: list[str | Path] = [sys.executable, "-P", "-m", "otelbpf", *words]
        # Nothing of the caller's telemetry; and byte code is kept, as it is where the collector is installed.
        environment = {name: "" for name in os.environ if name.startswith(("OTEL_", "OTELBPF_"))}
        environment["PYTHONDONTWRITEBYTECODE"] = environment["PYTHONPATH"] = ""
        if sink is not None:
            environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.endpoint
        if nice:
            argv = ["/usr/bin/env", "nice", "-n", str(nice), *argv]
        self._begun = time.monotonic()
        self.running = Running(argv, folder=folder, name="otelbpf", environment=environment)
        self.ready_seconds = 0.0

    def __enter__(self) -> Collector:
        while "\nready" not in f"\n{self.running.output()}":
            if not self.running.alive():
                raise CannotRun(f"{self.command} ended with {self.running.wait()}:\n{self.running.output()[-3000:]}")
            if time.monotonic() - self._begun > READY_SECONDS:
                self.running.stop()
                raise CannotRun(f"{self.command}: not ready in {READY_SECONDS} s:\n{self.running.output()[-3000:]}")
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - self._begun
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    @property
    def ready_line(self) -> str:
        """What it said when every probe was attached."""
        return next(line for line in self.running.output().splitlines() if line.startswith("ready"))

    def pids(self) -> list[int]:
        """Its processes that live now."""
        return [pid for pid in self.running.family() if Path(f"/proc/{pid}").exists()]

    def cpu_seconds(self) -> float:
        """What its processes have spent so far."""
        return machine.cpu_seconds(self.pids())

    def memory(self) -> machine.Memory:
        """What its processes hold now."""
        return machine.memory(self.pids())

    def uprobe_runs(self) -> tuple[int, float]:
        """How often its programs on uprobes have run, and the seconds they took, since BPF_STATS was on; of those on
        kprobes too, where it has any (BPF_PROG_TYPE_KPROBE)."""
        found = {}
        for pid in self.pids():
            for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
                told = dict(line.split(":\t", 1) for line in entry.read_text().splitlines() if ":\t" in line)
                if told.get("prog_type") == "2":
                    found[told["prog_id"]] = (int(told["run_cnt"]), int(told["run_time_ns"]))
        return sum(runs for runs, _ in found.values()), sum(took for _, took in found.values()) / 1e9

    def wait_until_idle(self) -> float:
        """Until what was captured is exported; how long that took, in seconds."""
        begun = time.monotonic()
        spent = self.cpu_seconds()
        while True:
            time.sleep(IDLE_SECONDS)
            now = self.cpu_seconds()
            if now - spent < IDLE_SHARE * IDLE_SECONDS:
                return max(time.monotonic() - begun - IDLE_SECONDS, 0.0)
            if time.monotonic() - begun > DRAIN_SECONDS:
                raise CannotRun(f"{self.command}: still busy {DRAIN_SECONDS} s after the load ended")
            spent = now

    def metrics(self) -> dict[str, float]:
        """/metrics, by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = (re.fullmatch(r"([^#\s][^\s]*(?:\{.*\})?) ([-+0-9.eEnaifNI]+)", line) for line in lines)
        return {match.group(1): float(match.group(2)) for match in found if match}

    def end(self) -> Ended:
        """SIGTERM; it must drain, print its balance sheet and end with 0. What is measured next must not meet uprobes
        that the kernel is still taking away."""
        metrics = self.metrics()
        status = self.running.stop(signal.SIGTERM, within_seconds=60)
        output = self.running.output()
        if status or "Traceback" in output:
            raise CannotRun(f"{self.command} ended with {status}:\n{output[-3000:]}")
        wait_for("its uprobes to be gone", lambda: not self.pids(), within_seconds=DRAIN_SECONDS)
        return Ended(sheet=balance.parse(output), metrics=metrics)


def filters_of(pids: Sequence[int]) -> list[str]:
    """Trace only these processes."""
    return [word for pid in pids for word in ("--pid", str(pid))]


__all__ = ["ROOT", "Collector", "Ended", "filters_of"]
