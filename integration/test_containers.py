"""Programs in containers, seen from the host: by files and libraries of their own, on a file system in layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import balance
from integration.harness.collector import Collector
from integration.harness.docker import BUILD_SECONDS, Engine
from integration.harness.pair import COUNT, ask_in, assert_told, begin_in, expected
from integration.harness.processes import free_port, wait_for
from integration.harness.secured import certificate

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 240)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With an image that has Python and a libssl of its own."""
    with Engine() as running:
        running.build_otelbpf()
        yield running


def test_a_container_s_own_library(engine: Engine, tier: str, folder: Path, run: str) -> None:
    """Plain text and TLS in two containers, of which the second starts, and is loaded from other layers, while the
    collector runs on the host: exactly the spans of the requests made, with the container's name and id."""
    ports = free_port(), free_port()
    identity = certificate(folder)
    begun = begin_in(engine, "before", folder, identity, ports)
    assert_own_library(engine, "before")
    told = {"OTELBPF_WORKLOADS_SOCKETS": str(engine.socket)}
    with Collector(folder, tls=True, tier=tier, ports=ports, environment=told) as collector:
        ask_in(engine, "before", identity, ports, f"{run}-before")
        later = begin_in(engine, "later", folder, identity, ports)
        ask_in(engine, "later", identity, ports, f"{run}-later")
        engine("stop", "--time=1", "before", "later")
    wanted = expected(f"{run}-before", "before", container=begun) + expected(f"{run}-later", "later", container=later)
    seen = collector.spans()
    assert_told(seen, wanted)
    secured = [span for span in seen if "otelbpf.tls.evidence" in span.attributes]
    assert len(secured) == 2 * 2 * COUNT
    balance.parse(collector.stderr()).assert_balanced()


def assert_own_library(engine: Engine, name: str) -> None:
    """Its libssl, once it has one mapped, is a file of the container: of another device than the host's root."""
    pid = engine.inspect(name)["State"]["Pid"]

    def libraries() -> set[str]:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if "libssl.so" in line}

    wait_for("libssl", libraries, within_seconds=20)
    (path,) = libraries()
    assert Path(f"/proc/{pid}/root{path}").stat().st_dev != Path("/").stat().st_dev
