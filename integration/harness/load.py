"""wrk against nginx: many requests a second, each with a path of its own, and nginx's log as the truth of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from integration.harness.processes import Running
from integration.harness.programs import SOURCES, tool
from integration.harness.servers import Server
from integration.harness.spans import SeenSpan


class Logged(msgspec.Struct, frozen=True):
    """One line of nginx's access log (the format `truth` of harness/servers.py)."""

    pid: int
    port: int
    """The client's."""
    path: str
    status: int
    received: int
    """Bytes of the request, head and body."""
    sent: int
    """Bytes of the response, head and body."""
    body: int
    ended_seconds: float


def start_wrk(
    url: str,
    prefix: str,
    folder: Path,
    *,
    connections: int,
    seconds: int,
    suffix: str = "",
    pause_ms: int = 0,
    name: str = "wrk",
) -> Running:
    """wrk at work for some seconds, asking for PREFIX/ID/SUFFIX, each connection every so many milliseconds."""
    sizes = ["-t", "2", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30"]
    argv: list[str | Path] = [tool("wrk", "wrk"), *sizes, "-s", SOURCES / "unique.lua", url]
    argv += ["--", prefix, suffix, str(pause_ms)]
    return Running(argv, folder=folder, name=name, environment={"OTEL_SERVICE_NAME": name})


def totals(wrk: Running) -> tuple[int, int]:
    """Requests sent and answers received, when wrk has ended."""
    assert wrk.wait() == 0, wrk.output()
    (line,) = [line for line in wrk.output().splitlines() if line.startswith("workload ")]
    _, sent, answered = line.split()
    return int(sent), int(answered)


def access_log(server: Server) -> list[Logged]:
    """What nginx says it did; read it when nginx has ended."""
    lines = (Path(server.running.folder) / "access.log").read_text().splitlines()
    rows = [line.split(" ") for line in lines]
    return [
        Logged(int(a), int(b), path, int(c), int(d), int(e), int(f), float(g))
        for a, b, path, c, d, e, f, g in rows
        if path != "/ready"
    ]


def strangers(log: list[Logged], spans: list[SeenSpan]) -> list[str]:
    """SERVER spans that tell what nginx's log does not: a wrong path, status, size, process or peer, or one twice."""
    known: Counter[tuple[Any, ...]] = Counter((row.pid, row.port, row.path, row.status, row.body) for row in log)
    told: Counter[tuple[Any, ...]] = Counter(
        (
            span.pid,
            span.attributes["network.peer.port"],
            span.attributes["url.path"],
            span.attributes.get("http.response.status_code"),
            span.attributes.get("http.response.body.size"),
        )
        for span in spans
    )
    return [str(one) for one in told - known]
