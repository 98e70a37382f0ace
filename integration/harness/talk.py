"""Both ends of a TCP connection in this process, byte for byte under a test's control, and the spans they must make."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import Any

from integration.harness.plan import ADDRESSES, Family
from integration.harness.processes import free_port
from integration.harness.truth import Expected, replace

AGENT = "talk/1"


class Talk:
    """A listener, the connections made to it, and what was said on them. One a case: its port tells its spans."""

    def __init__(self, run: str, name: str) -> None:
        self.prefix = f"/r/{run}/{name}"
        self.port = free_port()
        self.expected: list[Expected] = []
        self.started_ns = time.time_ns()
        self.open: list[socket.socket] = []
        self.listen("v4")
        self.client = self.server = self.listener
        self.ends: tuple[tuple[str, int], tuple[str, int]] = ((self.address, 0), (self.address, self.port))

    def listen(self, family: Family, *, dual_stack: bool = False) -> None:
        """Listen at loopback in `family`, or on an IPv6 socket that takes both."""
        for end in self.open:
            end.close()
        self.address = ADDRESSES[family]
        self.host = f"[{self.address}]:{self.port}" if family == "v6" else f"{self.address}:{self.port}"
        kind = socket.AF_INET6 if family == "v6" or dual_stack else socket.AF_INET
        at = "::" if dual_stack else self.address
        self.listener = socket.create_server((at, self.port), family=kind, backlog=128, dualstack_ipv6=dual_stack)
        self.open = [self.listener]

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A new connection: client's end, server's end."""
        self.client = socket.create_connection((self.address, self.port), timeout=20)
        self.server, _ = self.listener.accept()
        for end in (self.client, self.server):
            end.settimeout(20)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open.append(end)
        self.ends = self.client.getsockname()[:2], self.client.getpeername()[:2]
        return self.client, self.server

    def close(self) -> None:
        """Close whatever is open, clients first, and end the times of what was expected."""
        for end in self.open:
            end.close()
        now = time.time_ns()
        self.expected = [replace(one, latest_ns=one.latest_ns or now) for one in self.expected]

    def request(
        self, path: str = "", *, method: str = "GET", body: bytes = b"", version: str = "1.1", **headers: str
    ) -> bytes:
        """The bytes of a request for `path` below the case's prefix; `headers` with _ for -."""
        fields = {"Host": self.host, "User-Agent": AGENT}
        if body:
            fields["Content-Length"] = str(len(body))
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {self.prefix}{path} HTTP/{version}", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def expect(self, target: str = "", *, status: int = 200, sides: str = "CS", **fields: Any) -> None:
        """The spans of a request on the connection made last: the client's and the server's."""
        local, remote = self.ends
        path, _, query = target.partition("?")
        common: dict[str, Any] = {
            "pids": frozenset([os.getpid()]),
            "method": "GET",
            "path": self.prefix + path,
            "query": query,
            "status": status,
            "request_size": 0,
            "response_size": 0,
            "server_address": self.address,
            "server_port": self.port,
            "user_agent": AGENT,
            "earliest_ns": self.started_ns,
        }
        server_fields = {name.removeprefix("server__"): value for name, value in fields.items() if "server__" in name}
        client_fields = {name.removeprefix("client__"): value for name, value in fields.items() if "client__" in name}
        common |= {name: value for name, value in fields.items() if "__" not in name}
        if "C" in sides:
            ends: dict[str, Any] = {"peer_address": remote[0], "peer_port": remote[1], "local": local}
            self.expected.append(Expected(kind="CLIENT", **{**common, **ends, **client_fields}))
        if "S" in sides:
            ends = {"peer_address": local[0], "peer_port": local[1], "local": remote}
            self.expected.append(Expected(kind="SERVER", **{**common, **ends, **server_fields}))


def response(
    status: int = 200, body: bytes = b"", *, length: bool = True, version: str = "1.1", **headers: str
) -> bytes:
    """The bytes of a response."""
    fields = {"Content-Length": str(len(body))} if length else {}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/{version} {status} Because", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(pieces: Iterable[bytes], *, extension: str = "", trailers: str = "") -> bytes:
    """Pieces in chunked coding (RFC 9112 section 7.1)."""
    coded = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension.encode(), piece) for piece in pieces)
    return coded + b"0\r\n" + trailers.encode() + b"\r\n"


def pass_on(data: bytes, sender: socket.socket, receiver: socket.socket, *, step: int = 30_000) -> None:
    """Send and receive `data`, a step of at most `step` bytes at a time, so that no buffer overflows in between."""
    for begin in range(0, len(data), step):
        piece = data[begin : begin + step]
        sender.sendall(piece)
        assert read(receiver, len(piece)) == piece


def read(end: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes."""
    data = b""
    while len(data) < count:
        piece = end.recv(count - len(data))
        assert piece, f"the connection ended {count - len(data)} bytes too early"
        data += piece
    return data
