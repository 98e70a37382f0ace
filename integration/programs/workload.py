"""What every Python client of the workload does alike: read the plan, note what happened, write the log.

A plan is a file of JSON lines, one request each:   {"id", "method", "url", "body", "chunked", "headers"}
A log is a file of JSON lines, one answer each:     {"id", "status", "body", "start_ns", "end_ns", "peer", "error"}
Bodies are named by their size in bytes; times are Unix nanoseconds; `peer` is the answer's X-Peer header, in which
the server tells its pid and the client's address and port as it saw them. A client stays until its standard input
ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE = b"x" * 1000


class Answer:
    """One request as its client saw it; the clock runs from construction to `done`."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.line: dict[str, Any] = {"id": request["id"], "status": 0, "body": 0, "peer": "", "error": ""}
        self.line["start_ns"] = time.time_ns()

    def done(self, status: int, body: int, peer: str) -> dict[str, Any]:
        """The whole answer is there."""
        self.line["end_ns"] = time.time_ns()
        self.line.update(status=status, body=body, peer=peer)
        return self.line

    def failed(self, error: Exception) -> dict[str, Any]:
        """There will be none."""
        self.line["end_ns"] = time.time_ns()
        self.line["error"] = repr(error)
        return self.line


def pieces(size: int) -> Iterator[bytes]:
    """A body of `size` bytes whose length no library can know beforehand: it goes out chunked."""
    for begin in range(0, size, len(PIECE)):
        yield PIECE[: size - begin]


def plan() -> tuple[list[dict[str, Any]], int]:
    """The requests to make and how many at a time."""
    requests = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    return requests, int(sys.argv[3])


def write_log(lines: list[dict[str, Any]]) -> None:
    """Leave the answers for whoever gave the plan, then stay until standard input ends: a process can be asked who it
    is only while it lives."""
    part = Path(sys.argv[2] + ".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    part.rename(sys.argv[2])
    sys.stdin.read()
