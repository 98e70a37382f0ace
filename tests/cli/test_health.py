"""`otelbpf health` against a health server over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otelbpf.exporters.health import HealthServer
from tests.cli.command import otelbpf


@pytest.fixture
def server() -> Iterator[HealthServer]:
    with HealthServer("0.0.0.0:0", metrics=lambda _: ([], "text/plain")) as running:
        yield running


def test_it_says_what_readyz_says(server: HealthServer) -> None:
    """At an address of every interface it asks on this host's own."""
    environment = {"OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0", "OTEL_EXPORTER_PROMETHEUS_PORT": str(server.port)}

    starting = otelbpf("health", **environment)
    server.ready()
    tracing = otelbpf("health", **environment)
    server.draining()
    ending = otelbpf("health", "--listen", server.address)

    assert (starting.returncode, starting.stdout) == (1, "not attached yet\n")
    assert (tracing.returncode, tracing.stdout) == (0, "ok\n")
    assert (ending.returncode, ending.stdout) == (1, "draining\n")


def test_nobody_answers(server: HealthServer) -> None:
    server.close()

    result = otelbpf("health", "--listen", f"127.0.0.1:{server.port}")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"otelbpf: error: no collector answers at 127.0.0.1:{server.port} (")


def test_nobody_can_answer() -> None:
    result = otelbpf("health", "--listen", "off")

    assert result.returncode == 1
    assert result.stderr.startswith("otelbpf: error: the collector serves no /readyz: health.listen is off; ")
