"""The image, built and run on a real Docker engine with the very command that README.md names."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import balance, spans
from integration.harness.docker import BUILD_SECONDS, IMAGE, Engine
from integration.harness.pair import COUNT, PROGRAM, ask_in, assert_told, begin_in, expected
from integration.harness.processes import ROOT, Running, free_port, python, wait_for
from integration.harness.secured import Certificate, certificate

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 240)

MAX_IMAGE_BYTES = 420_000_000
"""401 MB when it was measured, 228 of them LLVM, which libbpfcc links."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With the image of this checkout."""
    with Engine() as running:
        running.build_otelbpf()
        yield running


def documented_options() -> list[str]:
    """What README.md puts between `docker run` and the image, but for the name and the environment."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"^    docker run (.*?[^\\])$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    words = shlex.split(found[1].replace("\\\n", " "))
    assert words[-1] == IMAGE
    return [word for word in words[:-1] if not word.startswith(("--name=", "--env="))]


def in_image(engine: Engine, *words: str) -> str:
    """What a program in the image prints."""
    return engine("run", "--rm", "--network=none", f"--entrypoint={words[0]}", IMAGE, *words[1:])


def test_what_is_in_it(engine: Engine) -> None:
    """Small, and nothing that only builds: no pip, no compiler, no headers; byte code is there already."""
    assert engine.inspect(IMAGE)["Size"] < MAX_IMAGE_BYTES
    script = """
        for name in pip pip3 gcc cc clang ld make git curl; do command -v $name; done
        ls -d /usr/include/* /usr/src/* /root/.cache /var/lib/apt/lists/* /source
        find /opt/otelbpf -name pip -o -name '*.whl'
    """
    assert in_image(engine, "sh", "-c", f"{{ {script} }} 2>/dev/null; true") == ""
    uncompiled = 'for f in $(find /opt/otelbpf -path "*/otelbpf/*" -name "*.py"); do p=${f%/*}/__pycache__/${f##*/}; '
    uncompiled += "ls ${p%.py}.*.pyc >/dev/null 2>&1 || echo $f; done"
    assert in_image(engine, "sh", "-c", uncompiled) == ""
    assert in_image(engine, "otelbpf", "--version").startswith("otelbpf, version ")


def test_processes_of_the_host_and_of_another_container(engine: Engine, folder: Path, run: str) -> None:
    """Plain text and TLS, on the host and in a container: exactly the spans of the requests made, each with what it is
    of, by the rights that README.md names, on a read-only root. The health check says so, and the end is in order."""
    plain, tls = free_port(), free_port()
    identity = certificate(folder)
    begin_collector(engine, plain, tls)
    assert wait_for("a verdict on its health", lambda: health(engine), within_seconds=30) == "healthy"
    ask_on_the_host(folder, identity, plain, tls, f"{run}-host")
    container = ask_in_a_container(engine, folder, identity, plain, tls, f"{run}-container")
    engine("stop", "--time=30", "collector", seconds=60)
    told = engine.logs("collector")
    assert engine.inspect("collector")["State"]["ExitCode"] == 0, told.stderr
    seen = spans.parse(told.stdout)
    assert_told(
        seen, expected(f"{run}-host", "secured_pair") + expected(f"{run}-container", "shop", container=container)
    )
    assert {(span.resource["host.name"], span.resource.get("os.version")) for span in seen} == {host()}
    sheet = balance.parse(told.stderr)
    sheet.assert_nothing_lost(but=["filtered"])  # TLS of the host's other programs


def begin_collector(engine: Engine, *ports: int) -> None:
    """The container `collector`, once it is ready."""
    options = [*documented_options(), "--health-interval=1s", f"--env=OTELBPF_WORKLOADS_SOCKETS={engine.socket}"]
    # Where the host's first process may not be looked into, its files are found at the same path.
    options += [f"--volume={engine.socket.parent}:{engine.socket.parent}"]
    options += [f"--env=OTEL_EXPORTER_PROMETHEUS_PORT={free_port()}"]
    # Filters, so that nothing else on this machine is told.
    command = ["run", "--export", "file:-", "--port", ",".join(map(str, ports))]
    engine("run", "--name=collector", *options, IMAGE, *command)

    def ready() -> bool:
        assert engine.inspect("collector")["State"]["Running"], engine.logs("collector").stderr
        return "\nready tier=" in f"\n{engine.logs('collector').stderr}"

    wait_for("the collector to be ready", ready, within_seconds=30)
    assert "capture.limited" not in engine.logs("collector").stderr


def health(engine: Engine) -> str:
    """The engine's verdict; empty until it has one."""
    status = str(engine.inspect("collector")["State"]["Health"]["Status"])
    return "" if status == "starting" else status


def ask_on_the_host(folder: Path, identity: Certificate, plain: int, tls: int, run: str) -> None:
    """A server and its client, as processes of the host."""
    ports = [str(plain), str(tls)]
    serve: list[str | Path] = [python(), PROGRAM, "serve", *ports, identity.file, identity.key]
    with Running(serve, folder=folder, name="serving"):
        command = [python(), str(PROGRAM), "ask", *ports, str(identity.file), run, str(COUNT)]
        subprocess.run(command, check=True, timeout=60)


def ask_in_a_container(engine: Engine, folder: Path, identity: Certificate, plain: int, tls: int, run: str) -> str:
    """The same in a container called shop; its id."""
    container = begin_in(engine, "shop", folder, identity, (plain, tls))
    ask_in(engine, "shop", identity, (plain, tls), run)
    engine("stop", "--time=1", "shop")
    return container


def host() -> tuple[str, str | None]:
    """Its name and the version of its system, which are not those of the image; no version where the first process
    may not be looked into, by whom it would be known in the container."""
    name = Path("/proc/sys/kernel/hostname").read_text().strip()
    try:
        release = Path("/proc/1/root/etc/os-release").read_text()
    except PermissionError:
        return name, None
    return name, shlex.split(release.partition("VERSION_ID=")[2])[0]
