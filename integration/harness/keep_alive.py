"""A client with one connection that asks when it is told to, so that a test decides what happens in between."""

from __future__ import annotations

import subprocess
from pathlib import Path

from msgspec.structs import replace

from integration.harness import expect
from integration.harness.clients import Asked
from integration.harness.plan import Answer, Request, base_url
from integration.harness.processes import Running, python, wait_for
from integration.harness.servers import Server
from integration.harness.truth import Expected


class KeepAlive:
    """programs/keep_alive.py at work."""

    def __init__(
        self, server: Server, folder: Path, *, name: str = "keep-alive", authority: Path | None = None
    ) -> None:
        """`authority` vouches for the server, which then is asked over TLS."""
        self.server = server
        self.scheme = "https" if authority else "http"
        self.name = name
        self.asked: list[tuple[Request, Answer]] = []
        self.running = Running(
            [python(), "-m", "integration.programs.keep_alive", "127.0.0.1", str(server.port), authority or ""],
            folder=folder,
            name=name,
            environment={"OTEL_SERVICE_NAME": name},
            stdin=subprocess.PIPE,
        )

    def __enter__(self) -> KeepAlive:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.release()
        assert self.running.wait() == 0, self.running.output()

    def _write(self, text: str) -> None:
        assert self.running.process.stdin is not None
        self.running.process.stdin.write(text.encode())
        self.running.process.stdin.flush()

    def _lines(self) -> list[str]:
        return [line for line in self.running.output().splitlines() if line != "half"]

    def begin_half(self, path: str, *, body: int) -> Request:
        """POST the head and half of the body; `go_on` sends the rest."""
        request = self.begin(path, method="SLOW-POST", body=body)
        wait_for("half an upload", lambda: "half" in self.running.output())
        return replace(request, method="POST")

    def go_on(self) -> None:
        """Send the other half."""
        self._write("\n")

    def begin(self, path: str, *, method: str = "GET", body: int = 0) -> Request:
        """Ask, without waiting for the answer."""
        self._write(f"{method} {path} {body}\n")
        url = base_url("v4", self.server.port, scheme=self.scheme) + path
        return Request(id=path, method=method, url=url, body=body, headers={"User-Agent": "keep-alive"})

    def end(self, request: Request) -> Request:
        """Wait for the answer, which is the next one."""
        number = len(self.asked)
        lines = wait_for(f"answer {number}", lambda: self._lines()[number:])
        status, size, start_ns, end_ns, *peer = lines[0].split()
        answer = Answer(
            id=request.id,
            status=int(status),
            body=int(size),
            start_ns=int(start_ns),
            end_ns=int(end_ns),
            peer=" ".join(peer),
            error="",
        )
        self.asked.append((request, answer))
        return request

    def ask(self, path: str, *, method: str = "GET", body: int = 0) -> Request:
        """Ask and wait for the answer."""
        return self.end(self.begin(path, method=method, body=body))

    def expected(self, requests: list[Request]) -> list[Expected]:
        """Both spans of each of these."""
        answers = {request.id: answer for request, answer in self.asked}
        asked = Asked(client="keep-alive", pid=self.running.pid, service=self.name, requests=requests, answers=answers)
        return expect.both_ends(asked, self.server)
