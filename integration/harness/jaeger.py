"""A real Jaeger: built once into the cache from the Go module in integration/jaeger, started on ports of its own. It is
an OpenTelemetry Collector too: metrics it takes stand at its own Prometheus endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from integration.harness.processes import CACHE, ROOT, Running, free_port, wait_for
from integration.harness.programs import go

MODULE = ROOT / "integration" / "jaeger"
PROGRAM = "github.com/jaegertracing/jaeger/cmd/jaeger"
BUILD_SECONDS = 900


def jaeger() -> Path:
    """The program; built where it is missing, which takes minutes the first time."""
    digest = hashlib.sha256((MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    built = CACHE / "jaeger" / f"jaeger-{digest}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        # No checksum database is asked: go.sum has every module's digest.
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GONOSUMDB": "*", "GOFLAGS": "-mod=readonly -trimpath"}
        building = built.with_suffix(".new")
        command = [go(), "build", "-ldflags=-s -w", "-o", str(building), PROGRAM]
        result = subprocess.run(
            command, cwd=MODULE, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if result.returncode != 0:
            pytest.skip(f"Jaeger cannot be built here: {result.stderr.strip()[-400:]}")
        building.rename(built)
    return built


class Jaeger:
    """Jaeger with OTLP receivers, memory for storage and its query API."""

    def __init__(self, folder: Path) -> None:
        self._program = jaeger()
        self._folder = folder
        self.grpc_port, self.http_port, self.query_port, self._query_grpc_port, self.metrics_port = (
            free_port() for _ in range(5)
        )
        config = {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]},
                    "metrics": {"receivers": ["otlp"], "exporters": ["prometheus"]},
                },
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1_000_000}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": f"127.0.0.1:{self.query_port}"},
                    "grpc": {"endpoint": f"127.0.0.1:{self._query_grpc_port}"},
                },
            },
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": f"127.0.0.1:{self.grpc_port}"},
                        "http": {"endpoint": f"127.0.0.1:{self.http_port}"},
                    }
                }
            },
            "exporters": {
                "jaeger_storage_exporter": {"trace_storage": "memory"},
                "prometheus": {"endpoint": f"127.0.0.1:{self.metrics_port}"},
            },
        }
        (folder / "jaeger.yaml").write_text(json.dumps(config))  # JSON is YAML
        self.running = self._start()

    def __enter__(self) -> Jaeger:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def _start(self) -> Running:
        config = self._folder / "jaeger.yaml"
        # Jaeger traces itself too, to the standard port, where another's backend may listen.
        quiet = {"OTEL_TRACES_SAMPLER": "always_off"}
        running = Running([self._program, "--config", config], folder=self._folder, name="jaeger", environment=quiet)

        def serving() -> bool:
            assert running.alive(), running.output()[-3000:]
            try:
                self.services()
            except (OSError, AssertionError):
                return False
            return True

        wait_for("Jaeger to answer", serving, within_seconds=30)
        return running

    def stop(self) -> None:
        """The backend goes away, and with it what it had."""
        self.running.stop()

    def start_again(self) -> None:
        """It comes back, empty, on the same ports."""
        self.running = self._start()

    def environment(self, protocol: str) -> dict[str, str]:
        """What makes a collector export here."""
        port = self.grpc_port if protocol == "grpc" else self.http_port
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def services(self) -> set[str]:
        """/api/services"""
        return set(self._get("services") or ())

    def traces(self, service: str) -> list[dict[str, Any]]:
        """/api/traces of one service, all of them."""
        found: list[dict[str, Any]] = self._get("traces", service=service, limit="100000", lookback="1h")
        return found

    def _get(self, what: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.query_port}/api/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]
