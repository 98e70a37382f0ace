"""TLS through a tunnel of a proxy, which is asked for it in the clear or by https: TLS within TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from integration.harness import balance
from integration.harness.collector import Collector
from integration.harness.processes import Running, accepts, free_port, python, wait_for
from integration.harness.programs import tool
from integration.harness.secured import certificate, start_secured

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("proxy", ["http", "https"])
def test_tls_through_a_tunnel(proxy: str, http2: bool, tier: str, folder: Path, run: str) -> None:
    """What goes through it is the client's and the server's, and nobody else's; the handshake with a proxy is told of
    what is said to the proxy alone."""
    identity, port = certificate(folder), free_port()
    server = start_secured("nginx", folder, version="1.2", http2=http2)
    files = [identity.file, identity.key] if proxy == "https" else []
    program: list[str | Path] = [python(), "-m", "integration.programs.proxy_connect", str(port), *files]
    curl = [tool("curl", "curl"), "--silent", "--cacert", str(identity.file), "--proxy-cacert", str(identity.file)]
    curl += ["--proxytunnel", "--proxy", f"{proxy}://127.0.0.1:{port}", "--output", "/dev/null"]
    urls = [f"https://localhost:{server.port}/r/{run}/{number}" for number in range(5)]
    with (
        Collector(folder, tls=True, tier=tier, ports=[port, server.port]) as collector,
        server,
        Running(program, folder=folder, name="tunnel"),
    ):
        wait_for("the proxy", lambda: accepts(port))
        subprocess.run([*curl, *urls], check=True)
    spans = collector.spans()
    told = sorted(
        (
            str(span.attributes["http.request.method"]),
            span.path,
            span.kind,
            span.attributes.get("otelbpf.tls.evidence"),
            span.attributes.get("tls.protocol.version"),
        )
        for span in spans
    )
    over = ("nested_call", "1.3") if proxy == "https" else (None, None)
    connects = [("CONNECT", "", kind, *over) for kind in ("CLIENT", "SERVER")]
    inner = [
        ("GET", f"/r/{run}/{number}", kind, "nested_call", version)
        for number in range(5)
        for kind, version in (("CLIENT", None), ("SERVER", "1.2"))
    ]
    assert told == sorted(connects + inner, key=str)
    assert len({span.span_id for span in spans}) == len(spans)
    by_kind = {(span.attributes["http.request.method"], span.kind): span for span in spans}
    assert by_kind["CONNECT", "SERVER"].parent_id == by_kind["CONNECT", "CLIENT"].span_id
    assert {span.parent_id for span in spans if span.attributes["http.request.method"] == "GET"} == {""}
    balance.parse(collector.stderr()).assert_balanced()
