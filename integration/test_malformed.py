"""Requests that break the rules, to real servers: whatever each of them answers is what the spans of both sides say."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from integration.harness import balance, servers
from integration.harness.collector import Collector

SEEN = {
    "/header": b"GET /header HTTP/1.1\r\nHost : h\r\n\r\n",
    "/length": b"POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    "/lengths": b"POST /lengths HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "/nul": b"GET /nul HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "/coding": b"POST /coding HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
}
"""The first line is one: by its path."""
UNSEEN = (
    b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /\x01 HTTP/9.9\r\nHost: h\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
)
"""It is none."""


def ask(port: int, *requests: bytes) -> list[int]:
    """The statuses of all answers to these requests, each sent when the answers to those before it had come."""
    answers = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for number, request in enumerate(requests):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
                if number == len(requests) - 1:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    answers += part
                    if number < len(requests) - 1 and b"\r\n\r\n" in answers:
                        break
    heads = [b"HTTP/1." + head for head in answers.split(b"HTTP/1.")[1:]]
    return [int(head[9:12]) for head in heads if head[8:9] == b" "]


@pytest.mark.parametrize("name", [name for name in servers.SERVERS if "http2" not in name])
def test_malformed_requests_have_the_answers_their_servers_gave(name: str, tier: str, folder: Path) -> None:
    """On connections of their own, and behind a request that nobody complains of. Without an answer there is an error
    where the first line tells of a request, and nothing to tell where it does not."""
    server = servers.start(name, folder)
    good = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
    expected: list[tuple[str, str, int]] = []
    with server, Collector(folder, tier=tier, ports=[server.port]) as collector:
        for path, request in SEEN.items():
            if (name, path) == ("node", "/coding"):
                continue  # the program there ends with it
            for before in ([], [good]):
                first, *more = [*([0] if not before else []), *ask(server.port, *before, request)] or [0]
                expected += [("HEAD", "/", first)] * len(before)
                expected += [(request.split()[0].decode(), path, more[0] if more else 0)]
        for request in UNSEEN:
            for before in ([], [good]):
                statuses = ask(server.port, *before, request)
                expected += [("HEAD", "/", status) for status in statuses[: len(before)]]
                expected += [("_OTHER", "", status) for status in statuses[len(before) :] if status >= 400]
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    for kind in ("SERVER", "CLIENT"):
        found = [
            (
                span.attributes["http.request.method"],
                span.path,
                span.attributes.get("http.response.status_code", 0),
            )
            for span in collector.spans()
            if span.kind == kind
        ]
        assert sorted(found) == sorted(expected), kind
