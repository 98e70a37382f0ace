"""Load: wrk or h2load as fast as the server answers, or benchmarks/workloads/steady.c at a constant rate."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from benchmarks.programs import CannotRun, c_program, tool


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a load generator did, by its own count."""

    requests: int
    """Answered, all with 200."""
    first: int = 0
    """Of those, how many came before the load began: the first one of each connection, where they are opened before."""
    seconds: float
    cpu_seconds: float = 0.0
    latency_us: dict[str, float] = {}
    """p50, p90, p99, p999, max; of each answer since its request was due."""

    @property
    def per_second(self) -> float:
        """The rate that came of it."""
        return (self.requests - self.first) / self.seconds


Opened = AbstractContextManager[Callable[[], Load]]
"""Entered, it is ready to send; called, it sends; left, its connections are closed."""


def wrk_command(url: str, *, connections: int, seconds: float) -> list[str]:
    """One thread, so that on two processors something is left for the server."""
    return [tool("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s", url]


@contextmanager
def wrk(url: str, *, connections: int, seconds: float) -> Iterator[Callable[[], Load]]:
    """Saturate a server. wrk opens its connections when it begins and drops them, requests under way, when it ends."""

    def send() -> Load:
        command = wrk_command(url, connections=connections, seconds=seconds)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", done.stdout)
        wrong = re.search(r"Socket errors.*|Non-2xx.*", done.stdout)
        if done.returncode or not found or wrong:
            raise CannotRun(f"{' '.join(command)}: {wrong.group() if wrong else done.stdout + done.stderr}")
        unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found.group(3)]
        return Load(
            requests=int(found.group(1)),
            seconds=float(found.group(2)) * unit,
            cpu_seconds=now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime,
        )

    yield send


def h2load_command(url: str, *, connections: int, streams: int, requests: int, more: Sequence[str] = ()) -> list[str]:
    """A number of requests and not a time: none is under way at the end."""
    counts = [f"-c{connections}", f"-m{streams}", f"-n{requests}"]
    return [tool("h2load", "nghttp2-client"), "-t1", *counts, *more, url]


@contextmanager
def h2load(
    url: str, *, connections: int, streams: int, requests: int, more: Sequence[str] = ()
) -> Iterator[Callable[[], Load]]:
    """Saturate a server with HTTP/2 in plain text; `more` are further options."""

    def send() -> Load:
        command = h2load_command(url, connections=connections, streams=streams, requests=requests, more=more)
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        took = re.search(r"finished in ([\d.]+)(us|ms|s),", done.stdout)
        if done.returncode or not took or f"status codes: {requests} 2xx" not in done.stdout:
            raise CannotRun(f"{' '.join(command)}: {done.stdout[-2000:] + done.stderr}")
        unit = {"us": 1e-6, "ms": 0.001, "s": 1.0}[took.group(2)]
        return Load(requests=requests, seconds=float(took.group(1)) * unit)

    yield send


class Steady:
    """A constant rate. Entering opens the connections, leaving closes them; neither is within what is measured."""

    def __init__(
        self, port: int, *, rate: int, seconds: float, connections: int, burst: int = 1, spin: bool = False
    ) -> None:
        wait = "spin" if spin else "sleep"
        words = ["127.0.0.1", port, rate, seconds, connections, burst, wait]
        self.command = ["steady", *map(str, words)]
        self._patience = seconds + 60

    def __enter__(self) -> Callable[[], Load]:
        self._process = subprocess.Popen(
            [str(c_program("steady")), *self.command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._line() != "connected":
            self._fail()
        return self._send

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        if self._process.wait(self._patience):
            self._fail()

    def _send(self) -> Load:
        """All requests, each when it is due."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._line()
        if not line:
            self._fail()
        told: dict[str, Any] = json.loads(line)
        return Load(
            requests=told["requests"],
            first=told["first"],
            seconds=told["seconds"],
            cpu_seconds=told["cpu_seconds"],
            latency_us={name.removesuffix("_us"): told[name] for name in told if name.endswith("_us")},
        )

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _fail(self) -> None:
        assert self._process.stderr is not None
        raise CannotRun(f"{' '.join(self.command)}: {self._process.stderr.read().strip()}")
