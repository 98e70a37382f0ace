"""Inside TLS, in containers that bring a library of their own: a collector on the host finds it through the container's
root and reads it there.
"""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from integration.harness import balance
from integration.harness.collector import Collector
from integration.harness.docker import BASE, BUILD_SECONDS, Engine
from integration.harness.pair import COUNT, PROGRAM, ask_in, assert_told, begin_in, expected
from integration.harness.processes import free_port, python, wait_for
from integration.harness.programs import tool
from integration.harness.secured import certificate
from integration.harness.spans import SeenSpan

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 240)

IMAGE = "otelbpf-test-python"
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")
_DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With an image that has a Python, and with it a libssl, of its own."""
    source = tmp_path_factory.mktemp("image")
    (source / "Dockerfile").write_text(_DOCKERFILE)
    with Engine() as running:
        running.build(source, IMAGE)
        yield running


class Shop:
    """A container that serves plain text and TLS, until the context ends."""

    def __init__(self, engine: Engine, name: str, folder: Path, ports: Sequence[int], *, network: str = "host") -> None:
        self._engine = engine
        self.name, self.ports, self.identity = name, ports, certificate(folder)
        self.id = begin_in(engine, name, folder, self.identity, ports, image=IMAGE, network=network)
        self.pid = int(engine.inspect(name)["State"]["Pid"])

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine("rm", "--force", self.name)

    def has_own_library(self) -> bool:
        """Other bytes than the host's, on a file system that only the container has mounted."""
        mounts = [line.split() for line in Path(f"/proc/{self.pid}/mounts").read_text().splitlines()]
        own = Path(f"/proc/{self.pid}/root", LIBRARY.relative_to("/"))
        on_overlay = ["/", "overlay"] in [[where, kind] for _, where, kind, *_ in mounts]
        return on_overlay and (not LIBRARY.exists() or own.read_bytes() != LIBRARY.read_bytes())

    def ask(self, run: str) -> None:
        """A client in the container."""
        ask_in(self._engine, self.name, self.identity, self.ports, run)

    def greet(self, run: str) -> bool:
        """One request in plain text, so that the process is met."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/greet/{run}/1", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def ask_from_the_host(shop: Shop, run: str) -> None:
    """With the host's library."""
    words = ["ask", *map(str, shop.ports), str(shop.identity.file), run, str(COUNT)]
    subprocess.run([python(), str(PROGRAM), *words], check=True, timeout=60)


def collecting(engine: Engine, folder: Path, tier: str, ports: Sequence[int], *, without: str = "") -> Collector:
    """On the host, `without` one of root's capabilities; the engine says what containers are called."""
    environment = {"OTELBPF_WORKLOADS_SOCKETS": str(engine.socket)}
    wrapper: list[str] = []
    if without:
        wrapper = [tool("setpriv", "util-linux"), f"--bounding-set=-{without}", f"--inh-caps=-{without}"]
    return Collector(folder, tls=True, tier=tier, ports=ports, environment=environment, wrapper=wrapper)


def told(collector: Collector) -> list[SeenSpan]:
    """The spans of a run in which nothing was lost; those inside TLS all say how their socket is known."""
    balance.parse(collector.stderr()).assert_nothing_lost(but=["filtered"])  # TLS of the host's other programs
    spans = collector.spans()
    evidence = {span.attributes.get("otelbpf.tls.evidence") for span in spans if "/https/" in span.path}
    assert evidence == {"nested_call"}
    return spans


def attached(collector: Collector) -> int:
    """How often this library got its probes while the collector was at work."""
    return sum('"tls.attached"' in line and str(LIBRARY) in line for line in collector.stderr().splitlines())


def test_a_container_that_was_there_before(engine: Engine, tier: str, folder: Path, run: str) -> None:
    """Server and client with the container's library, in a network of its own, from the first request on."""
    ports = free_port(), free_port()
    with Shop(engine, "shop", folder, ports, network="none") as shop:
        assert shop.has_own_library()
        with collecting(engine, folder, tier, ports) as collector:
            shop.ask(run)
    assert_told(told(collector), expected(run, "shop", shop.id))
    assert attached(collector) == 0


@pytest.mark.parametrize("without", ["", "checkpoint_restore"])
def test_containers_that_start_later(without: str, engine: Engine, tier: str, folder: Path, run: str) -> None:
    """The first one of its image is read once the collector says so. The second has the same library on a mount of its
    own: nothing is attached again, and not one request is missed. Who may not open what is mapped as it is mapped finds
    the library by the container's root."""
    ports = [free_port() for _ in range(4)]
    with (
        collecting(engine, folder, tier, ports, without=without) as collector,
        Shop(engine, "first", folder, ports[:2]) as first,
    ):
        assert first.has_own_library()
        wait_for("the first container", lambda: first.greet(run))
        collector.wait_attached(LIBRARY, first.pid)
        ask_from_the_host(first, f"{run}-host")
        first.ask(f"{run}-own")
        with Shop(engine, "second", folder, ports[2:]) as second:
            assert second.has_own_library()
            ask_from_the_host(second, f"{run}-second")
    spans = told(collector)
    greetings = [span for span in spans if span.path == f"/greet/{run}/1"]
    assert sorted(span.kind for span in greetings) == ["CLIENT", "SERVER"]
    wanted = expected(f"{run}-own", "first", first.id)
    wanted += expected(f"{run}-host", "first", first.id, kinds=["SERVER"])
    wanted += expected(f"{run}-second", "second", second.id, kinds=["SERVER"])
    for name in ("host", "second"):
        wanted += expected(f"{run}-{name}", "secured_pair", kinds=["CLIENT"])
    assert_told([span for span in spans if span not in greetings], wanted)
    assert attached(collector) == 1
