"""What is measured: one nginx worker that answers at once and counts its own requests."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from benchmarks.programs import tool
from integration.harness.processes import Running, descendants, free_port, wait_until_serving

BACKLOG = 16384


class Nginx:
    """One worker, no access log, `return 200`. Connections last as long as the client likes."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        home = folder / "nginx"
        home.mkdir()
        temporary = "\n".join(
            f"  {name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = home / "nginx.conf"
        config.write_text(
            f"""
daemon off; user root; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections {BACKLOG}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;
{temporary}
  server {{
    listen 127.0.0.1:{self.port} backlog={BACKLOG};
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
