"""The servers of harness/servers.py behind TLS, with a certificate of the test's own."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from integration.harness import servers
from integration.harness.processes import Running, free_port, wait_for
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
    name: str, folder: Path, *, version: str = "", http2: bool = False, environment: Mapping[str, str] | None = None
) -> servers.Server:
    """Start a server that speaks TLS, of one `version` or as it likes, and wait until it answers."""
    port = free_port()
    home = folder / name
    home.mkdir()
    identity = certificate(folder)
    files = (str(identity.file), str(identity.key))
    if name == "nginx":
        place = home / "files"
        place.mkdir()
        for file, size in servers.FILES.items():
            (place / file).write_bytes(b"f" * size)
        argv = servers.nginx(home, port, port, listen="ssl http2" if http2 else "ssl")
        config = Path(argv[2])
        secured = f"ssl_certificate {files[0]}; ssl_certificate_key {files[1]};"
        secured += f" ssl_protocols TLSv{version};" if version else ""
        text = config.read_text()
        config.write_text(text.replace("    location / {", f"    {secured}\n    location / {{", 1))
    else:
        argv = servers.APPS[name](port)
        if name.startswith("gunicorn"):
            argv = [*argv[:-1], f"--certfile={files[0]}", f"--keyfile={files[1]}", argv[-1]]
        else:
            argv += files
    named = {"OTEL_SERVICE_NAME": f"test-{name}", **limited(home, version), **(environment or {})}
    running = Running(argv, folder=home, name=name, environment=named)
    context = ssl.create_default_context(cafile=files[0])
    wait_for(f"{name} to serve port {port}", lambda: _answers(running, port, context), within_seconds=30)
    service = "nginx" if name == "nginx" else f"test-{name}"
    return servers.Server(name=name, port=port, service=service, running=running, reads_query=name != "nginx")


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
