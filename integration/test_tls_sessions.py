"""Inside TLS, what sessions may do besides one handshake and then requests: certificates of clients, sessions that go
on from earlier ones. Spans are those of the requests, one to one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from integration.harness import balance, expect, truth
from integration.harness.clients import Asked, ask
from integration.harness.collector import Collector
from integration.harness.plan import Request, app_plan, base_url
from integration.harness.programs import tool
from integration.harness.secured import certificate, over_tls, start_secured
from integration.harness.spans import SeenSpan

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 30
VERSIONS = ("1.2", "1.3")


def small_plan(run: str, port: int, *, files: bool) -> list[Request]:
    """Without what the client of sessions does not send."""
    base = base_url("v4", port, scheme="https")
    if files:
        return expect.file_plan(run, base, COUNT, agent="client")
    return app_plan(run, base, COUNT, agent="client", without=("chunked",))


def resumed(asked: Asked, folder: Path) -> dict[str, bool]:
    """By path: whether its connection went on from an earlier session, says the client's library."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / f"client-{asked.client}.log").read_text().splitlines()
    ]
    by_id = {line["id"]: line["resumed"] for line in lines}
    return {urlsplit(request.url).path: by_id[request.id] for request in asked.requests}


def nothing_lost(collector: Collector) -> list[SeenSpan]:
    """Every account balances, and no request was lost."""
    balance.parse(collector.stderr()).assert_nothing_lost()
    return collector.spans()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["nginx", "uvicorn"])
def test_sessions_that_go_on(name: str, version: str, tier: str, folder: Path, run: str) -> None:
    """By tickets of TLS 1.2 and keys of TLS 1.3: all connections but the first, and both ends say so."""
    server = start_secured(name, folder, version=version)
    trust = certificate(folder).trust
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        plan = small_plan(run, server.port, files=name == "nginx")
        asked = ask("sessions", plan, folder, concurrency=1, environment=trust)
        expected = over_tls(expect.both_ends(asked, server))
    spans = nothing_lost(collector)
    truth.assert_equal(expected, spans)
    went_on = resumed(asked, folder)
    assert list(went_on.values()) == [False] * 3 + [True] * (COUNT - 3)
    assert {(span.path, span.attributes["tls.resumed"]) for span in spans} == set(went_on.items())
    assert {span.attributes["tls.protocol.version"] for span in spans} == {version}


@pytest.mark.parametrize("version", VERSIONS)
def test_clients_with_certificates(version: str, tier: str, folder: Path, run: str) -> None:
    """nginx wants one: Python shows it, curl once does and once does not, and is told 400."""
    identity = certificate(folder)
    wants = f"ssl_client_certificate {identity.file}; ssl_verify_client on;"
    server = start_secured("nginx", folder, version=version, directives=wants)
    base = base_url("v4", server.port, scheme="https")
    shown = {**identity.trust, "CLIENT_CERTIFICATE": str(identity.file), "CLIENT_KEY": str(identity.key)}
    curl = [tool("curl", "curl"), "--silent", "--cacert", str(identity.file), "--output", "/dev/null"]
    curl += ["--write-out", "%{http_code} "]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("sessions", small_plan(run, server.port, files=True), folder, concurrency=1, environment=shown)
        expected = over_tls(expect.both_ends(asked, server))
        own = ["--cert", str(identity.file), "--key", str(identity.key)]
        codes = [
            subprocess.run([*curl, *more, f"{base}/r/{run}/{path}"], check=True, capture_output=True, text=True).stdout
            for path, more in (("with", own), ("without", []))
        ]
    assert codes == ["200 ", "400 "]
    spans = nothing_lost(collector)
    by_curl = [span for span in spans if span.path.rpartition("/")[2] in ("with", "without")]
    truth.assert_equal(expected, [span for span in spans if span not in by_curl])
    assert sorted(
        (s.path, s.kind, s.attributes["http.response.status_code"], s.attributes["url.scheme"]) for s in by_curl
    ) == [
        (f"/r/{run}/{path}", kind, status, "https")
        for path, status in (("with", 200), ("without", 400))
        for kind in ("CLIENT", "SERVER")
    ]
    assert {span.attributes["otelbpf.tls.evidence"] for span in spans} == {"nested_call"}
    assert {span.attributes["tls.protocol.version"] for span in spans} == {version}
