"""A real Prometheus that scrapes as config/prometheus.yml says."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from integration.harness.processes import ROOT, Running, free_port, wait_for
from integration.harness.programs import tool


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

    def values(self, text: str) -> list[float]:
        """Of each series."""
        return [float(series["value"][1]) for series in self.query(text)]
