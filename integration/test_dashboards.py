"""Every query of every dashboard, asked of a real Prometheus that scrapes a real collector by config/prometheus.yml."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from integration.harness import calls, servers
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import ROOT, Running, free_port, wait_for
from integration.harness.programs import tool
from tests.dashboards import Query, queries


class Refused(Exception):
    """Prometheus's words about a query."""


class Prometheus:
    """Of Debian, with the settings of config/prometheus.yml but for where the collector listens, and how often."""

    def __init__(self, folder: Path, scraped: str = "127.0.0.1:1") -> None:
        settings = yaml.safe_load((ROOT / "config" / "prometheus.yml").read_text())
        settings["global"]["scrape_interval"] = "1s"
        (job,) = settings["scrape_configs"]
        job["static_configs"] = [{"targets": [scraped]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self.port = free_port()
        command = [tool("prometheus", "prometheus"), f"--config.file={folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"]
        command += [
            "--enable-feature=exemplar-storage",
            f"--web.console.libraries={folder}",
            f"--web.console.templates={folder}",
        ]
        self.running = Running(command, folder=folder, name="prometheus")
        wait_for("Prometheus", self._ready, within_seconds=30, otherwise=self.running.output)

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def query(self, text: str) -> list[Any]:
        """What an instant query gives; raises Refused where it is none."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(json.load(error)["error"]) from None
        result: list[Any] = answer["data"]["result"]
        return result


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
            wait_for(f"two scrapes of {name}", lambda twice=twice: values(prometheus, twice))  # type: ignore[misc]
        yield prometheus
        serving.running.stop()


def served(prometheus: Prometheus) -> float:
    """Requests that a server answered."""
    return sum(values(prometheus, "http_server_request_duration_seconds_count"))


def values(prometheus: Prometheus, text: str) -> list[float]:
    """Of each series."""
    return [float(series["value"][1]) for series in prometheus.query(text)]


def test_every_query_has_an_answer(busy: Prometheus) -> None:
    """No request was lost in this load, so what counts those by reason has no series; all else has."""
    silent = {f"{query.dashboard}: {query.place}" for query in queries() if not busy.query(query.filled())}
    assert silent == {"collector: Requests that became no span A"}
    (share,) = [query for query in queries() if (query.dashboard, query.place) == ("collector", "Requests told A")]
    assert values(busy, share.filled()) == [1.0]
