"""docker-compose.yml as it stands, on an engine of the test's own, with local images under the tags it names.

No registry is asked: Jaeger is the program of harness/jaeger.py, Prometheus is Debian's. Grafana can be had from
nowhere and is left out by its name.
"""

from __future__ import annotations

import shutil
import tempfile
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from integration.harness.docker import BASE, BUILD_SECONDS, Engine, run
from integration.harness.jaeger import jaeger
from integration.harness.processes import ROOT, wait_for
from integration.harness.programs import tool

FILE = ROOT / "docker-compose.yml"
LEFT_OUT = "grafana"
PROJECT = "otelbpf-test"
_PROMETHEUS = f"""
FROM {BASE}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
"""
_JAEGER = f"""
FROM {BASE}
COPY jaeger /jaeger
ENTRYPOINT ["/jaeger"]
"""


def services() -> dict[str, dict[str, Any]]:
    """Those of the file, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


class Composed:
    """The services at work, all but the one that is left out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compose = tool("docker-compose", "docker-compose")
        engine.import_base()
        self._stand_in("jaeger", _JAEGER, jaeger())
        self._stand_in("prometheus", _PROMETHEUS)
        for one in services().values():
            if "build" in one:  # which compose would do without the network of the host
                engine.build(ROOT / one["build"], one["image"])
        self("up", "--detach", *sorted(services().keys() - {LEFT_OUT}))
        for service in services().keys() - {LEFT_OUT}:
            if "ports" in services()[service]:
                wait_for(f"{service} to answer", partial(self._answers, service), within_seconds=60)

    def __enter__(self) -> Composed:
        return self

    def __exit__(self, *_: object) -> None:
        self("down", "--volumes", "--timeout", "3")

    def __call__(self, *words: str) -> str:
        """What a command of compose prints."""
        command: list[str | Path] = [self._compose, "--file", FILE, "--project-name", PROJECT, *words]
        return run(command, environment=self._engine.environment, seconds=BUILD_SECONDS)

    def _stand_in(self, service: str, dockerfile: str, *programs: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Dockerfile").write_text(dockerfile)
            for program in programs:
                shutil.copy(program, Path(folder, service))
            self._engine.build(Path(folder), services()[service]["image"])

    def _answers(self, service: str) -> bool:
        try:
            with urllib.request.urlopen(self.url(service), timeout=5):
                return True
        except OSError:
            return False

    def container(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's one container."""
        return self._engine.inspect(self("ps", "--quiet", service))

    def url(self, service: str) -> str:
        """Where the host reaches what the service publishes."""
        ((address, port, _),) = [place.split(":") for place in services()[service]["ports"]]
        return f"http://{address}:{port}"
