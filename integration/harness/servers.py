"""Real servers, each on a port of its own, on IPv4 and IPv6 loopback, configured with absolute paths in one folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from integration.harness.processes import ROOT, Running, free_port, python, wait_until_serving
from integration.harness.programs import SOURCES, go_program, java_classes, tool


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answers."""

    name: str
    port: int
    service: str
    """service.name as it must appear."""
    running: Running
    reads_query: bool
    """Whether it answers as the workload's query asks; otherwise it serves /r/ with a fixed text and /f/ with files."""

    def pids(self) -> frozenset[int]:
        """Every process it has had."""
        return frozenset(self.running.family())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        # asyncio's servers wait for the ends of TLS that their clients never sent, and for ever.
        self.running.stop(within_seconds=3)


FILES = {"empty": 0, "small": 10, "page": 5000, "large": 700_000}
"""What the file servers serve: name and size."""
TEXT = "ok\n"
"""What they answer to /r/."""


def start(name: str, folder: Path, *, upstream: int = 0, port: int = 0) -> Server:
    """Start the server called `name` and wait until it answers; /p/ of a proxying one leads to port `upstream`. A free
    port is chosen where none is given."""
    port = port or free_port()
    home = folder / name
    home.mkdir()
    if name in FILE_SERVERS:
        lay_files(home)
        argv = FILE_SERVERS[name](home, port, upstream or port)
    else:
        argv = APPS[name](port)
    running = Running(argv, folder=home, name=name, environment={"OTEL_SERVICE_NAME": f"test-{name}"})
    wait_until_serving(running, port, http2=name in HTTP2_SERVERS)
    # nginx writes its process titles over its environment, so nobody can read what it was told there.
    service = "nginx" if name.startswith("nginx") else f"test-{name}"
    return Server(name=name, port=port, service=service, running=running, reads_query=name in APPS)


def lay_files(home: Path) -> None:
    """What a server of files serves."""
    files = home / "files"
    files.mkdir()
    for file, size in FILES.items():
        (files / file).write_bytes(b"f" * size)
    (files / "text").write_text(TEXT)
    for path in (home.parent, home, files):
        path.chmod(0o755)


def gunicorn(worker: str, *options: str) -> Callable[[int], list[str | Path]]:
    """gunicorn with two workers of a class; sync ones close every connection, gthread ones keep it."""
    return lambda port: [
        python(), "-m", "gunicorn", "--pythonpath", str(ROOT), "--worker-class", worker, "--workers", "2", *options,
        "--bind", f"127.0.0.1:{port}", "--bind", f"[::1]:{port}", "integration.programs.app_wsgi:app",
    ]  # fmt: skip


APPS: dict[str, Callable[[int], list[str | Path]]] = {
    "gunicorn-sync": gunicorn("sync"),
    "gunicorn-gthread": gunicorn("gthread", "--threads", "4", "--keep-alive", "60"),
    "uvicorn": lambda port: [python(), "-m", "integration.programs.server_uvicorn", str(port), "asyncio"],
    "uvicorn-uvloop": lambda port: [python(), "-m", "integration.programs.server_uvicorn", str(port), "uvloop"],
    "node": lambda port: [tool("node", "nodejs"), SOURCES / "server.mjs", str(port)],
    "go": lambda port: [go_program("server.go"), str(port)],
    "java": lambda port: [
        tool("java", "default-jdk-headless"), "-XX:TieredStopAtLevel=1", "-cp", java_classes("Server.java"), "Server",
        str(port),
    ],
    "hypercorn": lambda port: [
        python(), "-m", "hypercorn", "--workers", "1", "--bind", f"127.0.0.1:{port}", "--bind", f"[::1]:{port}",
        "integration.programs.app_asgi:app",
    ],
    "node-http2": lambda port: [tool("node", "nodejs"), SOURCES / "server.mjs", str(port), "2"],
}  # fmt: skip


def nginx(home: Path, port: int, upstream: int, *, listen: str = "") -> list[str | Path]:
    """Two workers, sendfile, a pool of connections to the upstream; `listen` are more words of that directive."""
    config = home / "nginx.conf"
    config.write_text(
        f"""
daemon off; user root; worker_processes 2; worker_rlimit_nofile 20000; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 20000; }}
http {{
  log_format truth '$pid $remote_port $uri $status $request_length $bytes_sent $body_bytes_sent $msec';
  access_log {home}/access.log truth; sendfile on; keepalive_requests 1000000; default_type text/plain;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; client_max_body_size 10m;
  fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {listen}; listen [::1]:{port} backlog=4096 {listen};
    location / {{ add_header X-Peer "$pid $remote_addr $remote_port" always; return 200 "{TEXT.strip()}\\n"; }}
    location ~ ^/f/[^/]+/[^/]+/(.+)$ {{
      add_header X-Peer "$pid $remote_addr $remote_port" always; alias {home}/files/$1;
    }}
    location /p/ {{
      proxy_pass http://behind; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_hide_header X-Peer;
      add_header X-Peer "$pid $remote_addr $remote_port $upstream_http_x_peer" always;
    }}
  }}
}}
"""
    )
    return [tool("nginx", "nginx-light", "/usr/sbin/nginx"), "-c", config, "-e", home / "error.log"]


def apache(home: Path, port: int, upstream: int) -> list[str | Path]:
    """The event worker with two children, sendfile, a proxy."""
    modules = ("mpm_event", "authz_core", "alias", "env", "headers", "mime", "proxy", "proxy_http")
    loads = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules)
    config = home / "apache.conf"
    config.write_text(
        f"""
{loads}
ServerRoot {home}
PidFile {home}/pid
ErrorLog {home}/error.log
DefaultRuntimeDir {home}
ServerName localhost
User www-data
Group www-data
Listen 127.0.0.1:{port}
Listen [::1]:{port}
EnableSendfile On
KeepAlive On
MaxKeepAliveRequests 0
StartServers 2
TypesConfig /dev/null
<Directory {home}/files>
  Require all granted
</Directory>
AliasMatch ^/f/[^/]+/[^/]+/(.+)$ {home}/files/$1
AliasMatch ^/(r/.*|ready)$ {home}/files/text
ProxyPass /p/ http://127.0.0.1:{upstream}/p/
ProxyPreserveHost On
Header set X-Peer "expr=- %{{REMOTE_ADDR}} %{{REMOTE_PORT}}"
"""
    )
    return [tool("apache2", "apache2", "/usr/sbin/apache2"), "-D", "FOREGROUND", "-f", config]


def caddy(home: Path, port: int, upstream: int) -> list[str | Path]:
    """One process of Go, files and a proxy."""
    config = home / "Caddyfile"
    config.write_text(
        f"""
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1 ::1
  header X-Peer "- {{http.request.remote.host}} {{http.request.remote.port}}"
  @file path_regexp file ^/f/[^/]+/[^/]+/(.+)$
  handle @file {{
    rewrite * /{{re.file.1}}
    root * {home}/files
    file_server
  }}
  handle /p/* {{
    reverse_proxy 127.0.0.1:{upstream} {{
      header_down -X-Peer
    }}
  }}
  handle {{
    respond "{TEXT}" 200
  }}
}}
"""
    )
    return [
        tool("env", "coreutils"), f"HOME={home}", f"XDG_DATA_HOME={home}", f"XDG_CONFIG_HOME={home}",
        tool("caddy", "caddy"), "run", "--config", config, "--adapter", "caddyfile",
    ]  # fmt: skip


FILE_SERVERS: dict[str, Callable[[Path, int, int], list[str | Path]]] = {
    "nginx": nginx,
    "apache": apache,
    "caddy": caddy,
    "nginx-http2": lambda home, port, upstream: nginx(home, port, upstream, listen="http2"),
}

HTTP2_SERVERS = ("nginx-http2", "hypercorn", "node-http2")
"""They speak HTTP/2 in plain text; hypercorn HTTP/1 too."""
SERVERS = tuple(name for name in (*APPS, *FILE_SERVERS) if name not in HTTP2_SERVERS)


def has_ipv6() -> bool:
    """Whether loopback speaks IPv6 here."""
    return os.path.exists("/proc/net/if_inet6") and "::1" in _interface_addresses()


def _interface_addresses() -> set[str]:
    lines = Path("/proc/net/if_inet6").read_text().splitlines()
    return {"::1" for line in lines if line.startswith("0" * 31 + "1 ")}
