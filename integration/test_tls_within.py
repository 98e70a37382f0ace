"""Inside TLS, where the library is not the system's: within the program, told where it kept its symbols, named where it
did not; or brought along by a package.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from integration.harness import balance
from integration.harness.collector import Collector
from integration.harness.processes import python
from integration.harness.programs import c_program, tool
from integration.harness.secured import certificate, start_secured
from integration.harness.spans import SeenSpan
from integration.harness.unread import assert_named

pytestmark = pytest.mark.usefixtures("alone")

CONNECTIONS = 5
LIBRARIES = ("libssl.a", "libcrypto.a")
"""Debian's libssl-dev has them: OpenSSL, to be linked into programs."""


def summary(spans: list[SeenSpan]) -> list[tuple[object, ...]]:
    """What is to be right of requests that no client's log tells of."""
    names = ("url.scheme", "http.response.status_code", "otelbpf.tls.evidence")
    return sorted((span.path, span.kind, *(span.attributes[name] for name in names)) for span in spans)


def everything(run: str) -> list[tuple[object, ...]]:
    """The summary of what clearing.c asks, where both ends are told."""
    return [
        (f"/r/{run}/{connection}/{number}", kind, "https", 200, "nested_call")
        for connection in range(CONNECTIONS)
        for number in range(2)
        for kind in ("CLIENT", "SERVER")
    ]


def test_openssl_within_a_program(tier: str, folder: Path, run: str) -> None:
    """Linked statically, as some build nginx: the probes go to the program itself, which is there before."""
    server = start_secured("nginx", folder)
    command: list[str | Path] = [c_program("clearing.c", *LIBRARIES), str(server.port), run, str(CONNECTIONS), "wait"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        client.communicate(b"begin\n", timeout=60)
        assert client.returncode == 0
    assert summary(collector.spans()) == everything(run)
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_a_library_that_a_package_brings_along(tier: str, folder: Path, run: str) -> None:
    """psycopg's wheel has a newer OpenSSL than the system, and what is written goes by SSL_write_ex2."""
    server = start_secured("nginx", folder)
    psycopg = Path(sysconfig.get_path("platlib")) / "psycopg2_binary.libs"
    for name in ("libssl", "libcrypto"):
        (library,) = psycopg.glob(f"{name}-*.so.3")
        (folder / f"{name}.so.3").symlink_to(library)
    command: list[str | Path] = [c_program("clearing.c", "libssl.so.3", "libcrypto.so.3")]
    command += [str(server.port), run, str(CONNECTIONS), "wait"]
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{psycopg}"}
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        said, _ = client.communicate(b"begin\n", timeout=60)
    assert (client.returncode, said) == (0, b"SSL_write_ex2\n")
    assert summary(collector.spans()) == everything(run)
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_openssl_within_a_program_without_symbols(tier: str, folder: Path, run: str) -> None:
    server = start_secured("nginx", folder)
    program = folder / "stripped"
    subprocess.run([tool("strip", "binutils"), "-o", program, c_program("clearing.c", *LIBRARIES)], check=True)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        client = subprocess.Popen([program, str(server.port), run, str(CONNECTIONS)])
        assert client.wait() == 0
    assert summary(collector.spans()) == [
        (f"/r/{run}/{connection}/{number}", "SERVER", "https", 200, "nested_call")
        for connection in range(CONNECTIONS)
        for number in range(2)
    ]
    assert_named(collector, "stripped", client.pid, unread=CONNECTIONS)


def test_rustls(tier: str, folder: Path, run: str) -> None:
    """A real program in Rust, which finds no package where it looks for one."""
    server = start_secured("nginx", folder)
    index = f"https://localhost:{server.port}/{run}"
    uv = Path(python()).with_name("uv")
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--dry-run",
        "--no-cache",
        "--no-config",
        "--target",
        folder / "none",
    ]
    environment = {**os.environ, **certificate(folder).trust, "UV_HTTP_RETRIES": "0"}
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        client = subprocess.Popen(
            [*command, "--allow-insecure-host", "localhost", "--index-url", index, "nothing"], env=environment
        )
        assert client.wait() != 0
    assert summary(collector.spans()) == [(f"/{run}/nothing/", "SERVER", "https", 200, "nested_call")]
    assert_named(collector, "uv", client.pid, unread=1)
