"""The servers of harness/servers.py behind TLS, with a certificate of the test's own."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from integration.harness import servers
from integration.harness.processes import Running, free_port, wait_for, wait_until_serving
from integration.harness.programs import tool
from integration.harness.truth import Expected, replace


class Certificate(msgspec.Struct, frozen=True):
    """Of 127.0.0.1 and localhost, signed by itself."""

    file: Path
    key: Path

    @property
    def trust(self) -> dict[str, str]:
        """What makes each client believe it."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
        return dict.fromkeys(names, str(self.file))


def certificate(folder: Path) -> Certificate:
    """The folder's certificate, made when it is first asked for."""
    made = Certificate(file=folder / "certificate.pem", key=folder / "key.pem")
    if not made.file.exists():
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
        command = [tool("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", names]
        command += ["-keyout", str(made.key), "-out", str(made.file)]
        subprocess.run(command, check=True, capture_output=True)
    return made


def start_secured(
    name: str,
    folder: Path,
    *,
    version: str = "",
    http2: bool = False,
    upstream: int = 0,
    environment: Mapping[str, str] | None = None,
    directives: str = "",
    before: Sequence[str | Path] = (),
) -> servers.Server:
    """Start a server that speaks TLS, of one `version` or as it likes, and wait until it answers. /p/ of a proxying one
    leads to port `upstream`, and haproxy-tls takes TLS there too; `directives` are more of nginx's or Apache's,
    `before` words before the command."""
    port = free_port()
    home = folder / name
    home.mkdir()
    identity = certificate(folder)
    if name in servers.FILE_SERVERS:
        argv = servers.FILE_SERVERS[name](home, port, upstream or port)
        servers.lay_files(home)
        secure = _SECURED[name]
        secure(Path(argv[-3 if name == "nginx" else -1]), identity, version, http2, directives)
    elif name.startswith("haproxy"):
        argv = _haproxy(home, port, upstream, identity, onward="ssl verify none" if name == "haproxy-tls" else "")
    else:
        argv = _app(name, port, identity)
    named = {"OTEL_SERVICE_NAME": f"test-{name}", **limited(home, version), **(environment or {})}
    running = Running([*before, *argv], folder=home, name=name, environment=named)
    context = ssl.create_default_context(cafile=identity.file)
    wait_for(f"{name} to serve port {port}", lambda: _answers(running, port, context), within_seconds=30)
    service = "nginx" if name == "nginx" else f"test-{name}"
    return servers.Server(name=name, port=port, service=service, running=running, reads_query=name in servers.APPS)


def _app(name: str, port: int, identity: Certificate) -> list[str | Path]:
    """The command of a server that reads the workload's query."""
    argv = servers.APPS[name](port)
    if name.startswith("gunicorn") or name == "hypercorn":
        return [*argv[:-1], f"--certfile={identity.file}", f"--keyfile={identity.key}", argv[-1]]
    if name == "java":
        return [*argv, _keystore(identity)]
    files = [identity.file, identity.key]
    return [*argv[:-1], *files, argv[-1]] if name == "node-http2" else [*argv, *files]


def _keystore(identity: Certificate) -> Path:
    """The certificate as Java takes it, without a password."""
    made = identity.file.with_suffix(".p12")
    command: list[str | Path] = [tool("openssl", "openssl"), "pkcs12", "-export", "-passout", "pass:", "-out", made]
    subprocess.run([*command, "-in", identity.file, "-inkey", identity.key], check=True, capture_output=True)
    return made


def _nginx(config: Path, identity: Certificate, version: str, http2: bool, more: str) -> None:
    secured = f"ssl_certificate {identity.file}; ssl_certificate_key {identity.key}; {more}"
    secured += f" ssl_protocols TLSv{version};" if version else ""
    text = re.sub(r"(listen \S+ backlog=4096)", rf"\1 ssl{' http2' if http2 else ''}", config.read_text())
    config.write_text(text.replace("    location / {", f"    {secured}\n    location / {{", 1))


def _apache(config: Path, identity: Certificate, version: str, http2: bool, more: str) -> None:
    modules = ("ssl", "http2") if http2 else ("ssl",)
    lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
    lines += ["SSLEngine On", f"SSLCertificateFile {identity.file}", f"SSLCertificateKeyFile {identity.key}", more]
    lines += [f"SSLProtocol -all +TLSv{version}"] if version else []
    config.write_text("\n".join((config.read_text(), *lines)) + "\n")


def _haproxy(home: Path, port: int, upstream: int, identity: Certificate, *, onward: str) -> list[str | Path]:
    """Two threads, and kept connections to the upstream; `onward` are more words of its server's line."""
    both = home / "both.pem"
    both.write_text(identity.file.read_text() + identity.key.read_text())
    config = home / "haproxy.cfg"
    config.write_text(
        f"""
global
  nbthread 2
defaults
  mode http
  timeout connect 20s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen front
  bind 127.0.0.1:{port} ssl crt {both}
  http-response set-header X-Peer "- %[src] %[src_port] %[res.hdr(x-peer)]"
  http-request return status 200 if {{ path /ready }}
  server behind 127.0.0.1:{upstream} {onward}
"""
    )
    return [tool("haproxy", "haproxy", "/usr/sbin/haproxy"), "-db", "-f", config]


def start_in_turn(folder: Path, ports: tuple[int, int]) -> tuple[Running, int]:
    """Haproxy, which passes bytes on, the first connection's to the first port, the second's to the second; and its
    port."""
    port, asked, config = free_port(), free_port(), folder / "in-turn.cfg"
    config.write_text(
        f"""
global
  nbthread 1
defaults
  mode tcp
  timeout connect 20s
  timeout client 60s
  timeout server 60s
listen front
  bind 127.0.0.1:{port}
  balance roundrobin
  server first 127.0.0.1:{ports[0]}
  server second 127.0.0.1:{ports[1]}
listen health
  bind 127.0.0.1:{asked}
  mode http
  http-request return status 200
"""
    )
    argv: list[str | Path] = [tool("haproxy", "haproxy", "/usr/sbin/haproxy"), "-db", "-f", config]
    running = Running(argv, folder=folder, name="in-turn")
    wait_until_serving(running, asked, ("127.0.0.1",))
    return running, port


_SECURED: dict[str, Callable[[Path, Certificate, str, bool, str], None]] = {"nginx": _nginx, "apache": _apache}


def limited(home: Path, version: str) -> dict[str, str]:
    """What keeps OpenSSL's users to one version of TLS."""
    if not version:
        return {}
    config = home / "openssl.cnf"
    config.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n"
        f"[system]\nMinProtocol = TLSv{version}\nMaxProtocol = TLSv{version}\n"
    )
    return {"OPENSSL_CONF": str(config), "NODE_OPTIONS": f"--tls-max-v{version} --tls-min-v{version}"}


def _answers(running: Running, port: int, context: ssl.SSLContext) -> bool:
    assert running.alive(), f"{running.name} ended:\n{running.output()[-3000:]}"
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"GET /ready HTTP/1.1\r\nHost: ready\r\nConnection: close\r\n\r\n")
            return secured.recv(5) == b"HTTP/"
    except OSError:
        return False


def over_tls(expected: list[Expected]) -> list[Expected]:
    """The same with https."""
    return [replace(one, scheme="https") for one in expected]
