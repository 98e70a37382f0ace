"""Secrets planted wherever a request or a process can carry them must be in nothing that leaves the collector."""

from __future__ import annotations

import subprocess
from pathlib import Path

from integration.harness import servers
from integration.harness.collector import Collector, otelbpf
from integration.harness.plan import base_url
from integration.harness.processes import free_port
from integration.harness.programs import tool

SECRET = "hunter2-{}"
"""Planted with a number each, so that a leak tells which."""


def test_planted_secrets(tier: str, folder: Path, run: str) -> None:
    """In query values, user info, headers, cookies, bodies, and on the command line of a client."""
    server, port = servers.start("go", folder), free_port()
    base = base_url("v4", server.port)
    plants: list[list[str]] = []

    def plant(*options: str) -> None:
        plants.append([option.replace("SECRET", SECRET.format(len(plants))) for option in options])

    path = f"/r/{run}/plant"
    for key in (
        "token",
        "api_key",
        "X-Amz-Signature",
        "sig",
        "password",
        "accessToken",
        "client_secret",
        "AWSAccessKeyId",
    ):
        plant(f"{base}{path}?a=1&{key}=SECRET&size=3")
    plant(f"{base}{path}?a=1&%74oken=SECRET")
    plant(f"{base}{path}?token=SECRET&token=SECRET#SECRET")
    plant("-H", "Authorization: Bearer SECRET", base + path)
    plant("-H", "Cookie: session=SECRET", base + path)
    plant("-H", "X-Api-Key: SECRET", "-H", "Proxy-Authorization: Basic SECRET", base + path)
    plant("-u", "user:SECRET", base + path)
    plant("--data", "password=SECRET", base + path)
    plant("--data", '{"key": "SECRET"}', "-H", "Content-Type: application/json", base + path)
    plant("--proxy", f"http://proxy:SECRET@127.0.0.1:{server.port}", f"http://user:SECRET@site.example{path}")
    plant("--oauth2-bearer", "SECRET", base + path)

    arguments = ("--export", "console")
    listen = f"127.0.0.1:{port}"
    with Collector(folder, *arguments, tier=tier, ports=[server.port], listen=listen) as collector, server:
        for options in plants:
            subprocess.run([tool("curl", "curl"), "-q", "-s", "-o", "/dev/null", *options], check=True, cwd=folder)
        metrics = subprocess.run(
            [tool("curl", "curl"), "-q", "-s", f"http://{listen}/metrics"], check=True, capture_output=True
        ).stdout
    spans = collector.spans()
    assert len(spans) == 2 * len(plants), "a request that was not told proves nothing"
    outputs = {
        "spans": collector.spans_path.read_bytes(),
        "console and standard error": collector.stderr().encode(),
        "metrics": metrics,
    }
    secrets = [SECRET.format(n) for n in range(len(plants))]
    leaks = [(where, secret) for where, text in outputs.items() for secret in secrets if secret.encode() in text]
    assert leaks == []
    # And what is no secret was left alone.
    assert {span.attributes.get("url.query") for span in spans if span.kind == "SERVER"} >= {
        "a=1&token=REDACTED&size=3",
        "a=1&%74oken=REDACTED",
        "token=REDACTED&token=REDACTED",
    }


def test_the_configuration_shows_no_secret(folder: Path) -> None:
    """`otelbpf config` prints every setting in force: not the headers that authorize the exporter."""
    environment = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hunter2", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}
    result = otelbpf("config", "--print", folder=folder, environment=environment)
    assert result.returncode == 0, result.stderr
    assert "hunter2" not in result.stdout + result.stderr
