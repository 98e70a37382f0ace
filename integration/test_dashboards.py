"""Every query of every dashboard, asked of a real Prometheus that scrapes a real collector by config/prometheus.yml."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from integration.harness import calls, servers
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import free_port, wait_for
from integration.harness.prometheus import Prometheus, Refused
from tests.dashboards import Query, queries


def faults(prometheus: Prometheus, asked: list[Query]) -> dict[str, str]:
    """What Prometheus refuses, by where it stands."""
    found = {}
    for query in asked:
        try:
            prometheus.query(query.filled())
        except Refused as error:
            found[f"{query.dashboard}: {query.place}"] = str(error)
    return found


def test_prometheus_understands_every_query(folder: Path) -> None:
    """And would say so if it did not."""
    asked = list(queries())
    with Prometheus(folder) as prometheus:
        assert faults(prometheus, asked) == {}
        broken = msgspec.structs.replace(asked[0], text=asked[0].text.replace(")", "", 1))
        assert len(faults(prometheus, [broken])) == 1


@pytest.fixture
def busy(tier: str, folder: Path, run: str) -> Iterator[Prometheus]:
    """Prometheus, after a load was told by a collector that it scrapes: requests with errors among them, and calls."""
    server, port, nobody = servers.start("go", folder), free_port(), free_port()
    plan = calls.plan(run, 26)
    serving = calls.Server("python", plan, folder)
    with (
        Collector(folder, tier=tier, ports=[server.port, serving.port, nobody], listen=f"127.0.0.1:{port}"),
        server,
        Prometheus(folder, f"127.0.0.1:{port}") as prometheus,
    ):
        wait_for("a first scrape", lambda: prometheus.query("otelbpf_spans_total"))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", nobody))
        calls.play("python", serving, plan, folder, at_once=4)
        for turn in range(3):
            requests = app_plan(f"{run}-{turn}", base_url("v4", server.port), 57, agent="go")
            ask("go", requests, folder, name=f"asking-{turn}")
            # One and the same client, too: connections are counted by who has them.
            with urllib.request.urlopen(f"{base_url('v4', server.port)}/r/{run}/again") as answer:
                assert answer.read()
            # What a first scrape of a series finds is no increase.
            wait_for("its scrape", lambda turn=turn: served(prometheus) == 58 * (turn + 1))  # type: ignore[misc]
        # A rate needs two scrapes that tell of it.
        for name in ("otelbpf_connections", "otelbpf_connection_failures", "process_cpu_time_seconds"):
            twice = f"count_over_time({name}_total[1m]) >= 2"
            wait_for(f"two scrapes of {name}", lambda twice=twice: prometheus.values(twice))  # type: ignore[misc]
        yield prometheus
        serving.running.stop()


def served(prometheus: Prometheus) -> float:
    """Requests that a server answered."""
    return sum(prometheus.values("http_server_request_duration_seconds_count"))


def test_every_query_has_an_answer(busy: Prometheus) -> None:
    """No request was lost in this load, so what counts those by reason has no series; all else has."""
    silent = {f"{query.dashboard}: {query.place}" for query in queries() if not busy.query(query.filled())}
    assert silent == {"collector: Requests that became no span A"}
    (share,) = [query for query in queries() if (query.dashboard, query.place) == ("collector", "Requests told A")]
    assert busy.values(share.filled()) == [1.0]
