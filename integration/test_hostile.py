"""What strangers send to do harm: bounded memory, nothing on standard error, every byte and request accounted for, and
the spans of everybody else as if nothing had been."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from integration.harness import balance, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.expect import both_ends
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import free_port
from integration.test_lifecycle import metrics

MIB = 1 << 20
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def head_of_a_gigabyte() -> Iterator[bytes]:
    yield b"GET /gigabyte HTTP/1.1\r\nHost: h\r\nX: "
    yield from [b"a" * MIB] * 1024
    yield b"\r\n\r\n"


def ten_thousand_lines() -> Iterator[bytes]:
    yield b"GET /lines HTTP/1.1\r\nHost: h\r\n"
    yield b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    yield b"\r\n"


def one_byte_at_a_time() -> Iterator[bytes]:
    for byte in b"GET /slow HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 1000 + b"\r\n":
        yield bytes([byte])


SEEN = {
    "/gigabyte": "head_beyond_limit",
    "/lines": "head_beyond_limit",
    "/slow": None,
    "/much": "closed",
    "/absurd": "malformed",
    "/negative": "malformed",
    "/chunk": "malformed",
    "/nul": "malformed",
    "": "malformed",
}
"""What becomes a span, and what of its request is missing. Zeros have no path."""
HOSTILE: tuple[Iterator[bytes], ...] = (
    head_of_a_gigabyte(),
    ten_thousand_lines(),
    one_byte_at_a_time(),
    iter([b"POST /much HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\nabc"]),
    iter([b"POST /absurd HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\nabc"]),
    iter([b"POST /negative HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nabc"]),
    iter([b"POST /chunk HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\nabc"]),
    iter([b"GET /nul HTTP/1.1\r\nHost: h\0\r\n\0: \0\r\n\r\n"]),
    iter([bytes(100_000)]),
)


class Drain:
    """A server that reads whatever comes until there is no more, and refuses it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for _ in HOSTILE:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                while connection.recv(MIB):
                    pass
                connection.sendall(REFUSAL)

    def attack(self, pieces: Iterator[bytes]) -> None:
        """Send all of it and wait for the refusal."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(len(REFUSAL)) == REFUSAL

    def close(self) -> None:
        self._thread.join(timeout=60)
        self._listener.close()


def test_hostile_bytes(tier: str, folder: Path, run: str) -> None:
    """A head of a gigabyte, 10,000 lines, NULs, absurd lengths: each is a span that says so or a counted loss."""
    server, drain, port = servers.start("go", folder), Drain(), free_port()
    ports = [server.port, drain.port]
    with server, Collector(folder, tier=tier, ports=ports, listen=f"127.0.0.1:{port}") as collector:
        before = metrics(port)["otelbpf_process_anonymous_memory_bytes"]
        for pieces in HOSTILE:
            drain.attack(pieces)
        after = metrics(port)["otelbpf_process_anonymous_memory_bytes"]
        drain.close()
        asked = ask("go", app_plan(run, base_url("v4", server.port), 19, agent="go"), folder)

    assert after - before < 32 * MIB
    assert not re.search("Traceback|internal error", collector.stderr())
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    spans = collector.spans()
    theirs = [
        span
        for span in spans
        if drain.port in (span.attributes["network.peer.port"], span.attributes["network.local.port"])
    ]
    truth.assert_equal(
        both_ends(asked, server), [span for span in spans if span not in theirs], exact_sends=tier == "kprobe"
    )
    for kind in ("CLIENT", "SERVER"):
        told = {span.path: span.attributes.get("otelbpf.request.incomplete") for span in theirs if span.kind == kind}
        assert told == SEEN
    assert len(theirs) == 2 * len(SEEN)
    assert {span.attributes.get("http.response.status_code") for span in theirs} == {400}
    assert sheet.lost == {}
