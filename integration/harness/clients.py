"""Real clients, each told a plan: they ask, and note what they asked and got, by their own clocks."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from integration.harness.plan import Answer, Request, read_log, write_plan
from integration.harness.processes import Running, python, wait_for
from integration.harness.programs import SOURCES, go_program, java_classes, tool


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A plan carried out by one process."""

    client: str
    pid: int
    service: str | None
    """service.name, where it is certain."""
    requests: list[Request]
    answers: dict[str, Answer]


Argv = Callable[[Path, Path, int], Sequence[str | Path]]
"""PLAN, LOG and the number of requests at a time -> the command."""

ARGV: dict[str, Argv] = {
    "requests": lambda plan, log, n: [python(), "-m", "integration.programs.client_requests", plan, log, str(n)],
    "sessions": lambda plan, log, n: [python(), "-m", "integration.programs.client_sessions", plan, log, str(n)],
    "httpx": lambda plan, log, n: [python(), "-m", "integration.programs.client_httpx", plan, log, str(n)],
    "aiohttp": lambda plan, log, n: [python(), "-m", "integration.programs.client_aiohttp", plan, log, str(n)],
    "fetch": lambda plan, log, n: [tool("node", "nodejs"), SOURCES / "client.mjs", plan, log, str(n)],
    "go": lambda plan, log, n: [go_program("client.go"), plan, log, str(n)],
    "java": lambda plan, log, n: java(plan, log, str(n)),
    "httpx-http2": lambda plan, log, n: [
        python(), "-m", "integration.programs.client_httpx", plan, log, str(n), "2",
    ],
    "node-http2": lambda plan, log, n: [tool("node", "nodejs"), SOURCES / "client_http2.mjs", plan, log, str(n)],
    "java-upgrading": lambda plan, log, n: java(plan, log, str(n), "2"),
}  # fmt: skip
CURLS = {"curl": [], "curl-http2": ["http2-prior-knowledge"], "curl-upgrading": ["http2"]}
"""Options of each."""

CLIENTS = ("requests", "httpx", "aiohttp", "fetch", "go", "java", "curl")


def java(*arguments: str | Path) -> list[str | Path]:
    """Client.java at work; the quick compiler alone starts sooner."""
    tuning = ("-XX:TieredStopAtLevel=1", "-cp", java_classes("Client.java"))
    return [tool("java", "default-jdk-headless"), *tuning, "Client", *arguments]


def ask(
    client: str,
    requests: list[Request],
    folder: Path,
    *,
    concurrency: int = 8,
    name: str = "",
    environment: Mapping[str, str] | None = None,
    before: Sequence[str | Path] = (),
) -> Asked:
    """Let `client` carry out the plan; every request must have been answered."""
    return Asking(
        client, requests, folder, concurrency=concurrency, name=name, environment=environment, before=before
    ).finished()


class Asking:
    """A client at work on its plan; `before` are words before its command."""

    def __init__(
        self,
        client: str,
        requests: list[Request],
        folder: Path,
        *,
        concurrency: int = 8,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        before: Sequence[str | Path] = (),
    ) -> None:
        self.client, self.requests = client, requests
        self.name = name or f"client-{client}"
        self.plan, self.log = folder / f"{self.name}.plan", folder / f"{self.name}.log"
        write_plan(self.plan, requests)
        is_curl = client in CURLS
        argv = (
            curl(requests, folder, self.name, CURLS[client])
            if is_curl
            else ARGV[client](self.plan, self.log, concurrency)
        )
        self.started_ns = time.time_ns()
        # curl ends when it is done, perhaps before anyone could read its environment; its service is its name.
        self.service = "curl" if is_curl else self.name
        named = {} if is_curl else {"OTEL_SERVICE_NAME": self.name}
        self.running = Running(
            [*before, *argv],
            folder=folder,
            name=self.name,
            environment={**named, **(environment or {})},
            stdin=subprocess.PIPE,
        )

    def so_far(self) -> Asked:
        """Who asks, without any answers."""
        return self._asked({})

    def _asked(self, answers: dict[str, Answer]) -> Asked:
        return Asked(
            client=self.client, pid=self.running.pid, service=self.service, requests=self.requests, answers=answers
        )

    def finished(self, *, within_seconds: float = 90.0) -> Asked:
        """Wait for its log; a request without an answer is the workload's own failure. The process stays on until
        the collector has ended, so that whoever traces it can learn who it is."""

        def done() -> bool:
            assert self.client in CURLS or self.running.alive(), f"{self.name} ended:\n{self.running.output()[-3000:]}"
            return self.log.exists() if self.client not in CURLS else not self.running.alive()

        wait_for(f"the log of {self.name}", done, within_seconds=within_seconds)
        if self.client in CURLS:
            assert self.running.wait() == 0, self.running.output()[-3000:]
            curl_log(self.running.output(), self.requests, self.log, self.started_ns)
        answers = read_log(self.log)
        assert answers.keys() == {request.id for request in self.requests}, "a client lost requests of its plan"
        failed = [answer for answer in answers.values() if answer.error]
        assert not failed, f"{len(failed)} requests failed, the first: {failed[0]}"
        return self._asked(answers)


# curl reports its times as seconds since it began a transfer, and nothing of when that was: all it can say is that
# each lay between the start and the end of the process.
WRITE_OUT = '{"status": %{http_code}, "body": %{size_download}, "peer": "%header{x-peer}", "failure": "%{errormsg}"}\\n'


def curl(requests: list[Request], folder: Path, name: str, more: Sequence[str]) -> list[str | Path]:
    """One curl process for the whole plan, on as few connections as it can."""
    options: list[str] = []
    for request in requests:
        lines = ["next"] if options else []
        lines += ["head" if request.method == "HEAD" else f'request = "{request.method}"', f'url = "{request.url}"']
        lines += ['output = "/dev/null"', "globoff", "silent", *more]
        lines += [f'header = "{key}: {value}"' for key, value in request.headers.items()]
        if request.body or request.chunked:
            body = folder / f"body-{request.body}"
            body.write_bytes(b"x" * request.body)
            lines += [f'data-binary = "@{body}"', 'header = "Content-Type: application/octet-stream"']
            if request.chunked:
                lines.append('header = "Transfer-Encoding: chunked"')
        lines.append("write-out = " + json.dumps(WRITE_OUT).replace("\\\\n", "\\n"))
        options += lines
    config = folder / f"{name}.config"
    config.write_text("\n".join(options) + "\n")
    return [tool("curl", "curl"), "--disable", "--no-progress-meter", "--config", config]


def curl_log(output: str, requests: list[Request], log: Path, started_ns: int) -> None:
    """What curl wrote per transfer, in the order of the plan, as a log. Its output is all on one channel."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"status"')]
    ended_ns = time.time_ns()
    answers = [
        Answer(
            id=request.id, status=line["status"], body=line["body"], start_ns=started_ns, end_ns=ended_ns,
            peer=line["peer"], error=line["failure"],
        )
        for request, line in zip(requests, lines, strict=True)
    ]  # fmt: skip
    log.write_bytes(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers))
