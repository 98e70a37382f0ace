"""What is measured: one nginx worker that answers at once and counts its own requests, and a gRPC server in Go."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Protocol

from benchmarks.programs import tool
from integration.harness.processes import Running, descendants, free_port, greets, wait_for, wait_until_serving
from integration.harness.programs import go_module
from integration.harness.secured import certificate

BACKLOG = 16384


class Server(Protocol):
    """What a benchmark asks of whom it measures."""

    port: int
    running: Running
    worker: int
    """The process that answers."""
    asks: int
    """Requests that asking for the count costs, which the count has too."""

    def served(self) -> int:
        """How many requests it has answered by now, with the one that asks."""
        ...


class Nginx:
    """One worker, no access log, `return 200`. Connections last as long as the client likes."""

    asks = 1

    def __init__(self, folder: Path, *, also: str = "") -> None:
        """`also`: what it speaks on a second port, `other_port`: `http2`, or `ssl`."""
        self.port, self.other_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.other_url = f"{'https' if also == 'ssl' else 'http'}://127.0.0.1:{self.other_port}/"
        home = folder / "nginx"
        home.mkdir()
        temporary = "\n".join(
            f"  {name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        listen = f"listen 127.0.0.1:{self.other_port} {also} backlog={BACKLOG};" if also else ""
        if also == "ssl":
            tool("openssl", "openssl")
            own = certificate(folder)
            listen += f" ssl_certificate {own.file}; ssl_certificate_key {own.key};"
        config = home / "nginx.conf"
        config.write_text(
            f"""
daemon off; user root; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections {BACKLOG}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
{temporary}
  server {{
    listen 127.0.0.1:{self.port} backlog={BACKLOG}; {listen}
    location = /status {{ stub_status; }}
    location / {{ return 200 "ok\\n"; }}
  }}
}}
"""
        )
        command: list[str | Path] = [
            tool("nginx", "nginx-light", "/usr/sbin/nginx"),
            "-c",
            config,
            "-e",
            home / "error.log",
        ]
        self.running = Running(command, folder=home, name="nginx")
        wait_until_serving(self.running, self.port, ["127.0.0.1"])
        (self.worker,) = descendants(self.running.pid) - {self.running.pid}

    def __enter__(self) -> Nginx:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def served(self) -> int:
        """How many requests it has counted by now, the one that asks included (ngx_http_stub_status_module)."""
        with urllib.request.urlopen(f"{self.url}status", timeout=10) as answer:
            numbers = answer.read().decode().splitlines()[2]
        return int(numbers.split()[2])


class Grpc:
    """The gRPC server of integration/programs/grpc: any method is served, with two bytes. It has no count of its own:
    whoever has counted answers adds them to `answered`."""

    asks = 0

    def __init__(self, folder: Path) -> None:
        tool("go", "golang-go", "/usr/local/go/bin/go")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/shop.Stock/Unary"
        self.answered = 0
        self.running = Running([go_module("grpc"), "server", str(self.port)], folder=folder, name="grpc")
        self.worker = self.running.pid
        wait_for("the gRPC server", lambda: greets("127.0.0.1", self.port), otherwise=self.running.output)

    def __enter__(self) -> Grpc:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def served(self) -> int:
        """How many calls its clients say it has answered."""
        return self.answered
