"""What sessions of TLS go through besides their handshake: certificates of clients, resumption, early data,
renegotiation, much of it. Every request is told, exactly."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from integration.harness import balance, expect, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import Request, base_url
from integration.harness.programs import tool
from integration.harness.secured import certificate, over_tls, start_secured

COUNT = 20
VERSIONS = ("1.2", "1.3")


@pytest.mark.parametrize("version", VERSIONS)
def test_clients_that_show_a_certificate_and_resume(version: str, tier: str, folder: Path, run: str) -> None:
    """A connection for each request, all but the first with the session of the one before."""
    identity = certificate(folder)
    asks = f"ssl_verify_client on; ssl_client_certificate {identity.file};"
    asks += " ssl_session_cache shared:all:1m; ssl_session_tickets on;"
    server = start_secured("nginx", folder, version=version, directives=asks)
    environment = {**identity.trust, "TLS_CERTIFICATE": str(identity.file), "TLS_KEY": str(identity.key)}
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        base = base_url("v4", server.port, scheme="https")
        plan = expect.file_plan(run, base, COUNT, agent="resuming", kinds=("text", "files"))
        asked = ask("resuming", plan, folder, environment=environment)
        expected = over_tls(expect.both_ends(asked, server))
    said = re.search(r"resumed (\d+)", (folder / "client-resuming.out").read_text())
    assert said is not None
    resumed = int(said[1])
    assert resumed == COUNT - 1
    spans = collector.spans()
    truth.assert_equal(expected, spans)
    assert {span.attributes["tls.protocol.version"] for span in spans} == {version}
    told = Counter((span.kind, span.attributes["tls.resumed"]) for span in spans)
    assert told == {(kind, again): resumed if again else 1 for kind in ("CLIENT", "SERVER") for again in (True, False)}
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


def test_early_data(tier: str, folder: Path, run: str) -> None:
    """0-RTT: the request comes with the first flight, and nginx reads it before the handshake is over."""
    server = start_secured("nginx", folder, version="1.3", directives="ssl_early_data on; ssl_session_tickets on;")
    session, request = folder / "session.pem", folder / "request"

    def say(number: int, *options: str | Path) -> str:
        """One request over openssl s_client, which ends when the server does."""
        path = f"/r/{run}/{number:05d}"
        text = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
        request.write_text(text)
        early = "-early_data" in options
        command: list[str | Path] = [tool("openssl", "openssl"), "s_client", "-tls1_3", "-ign_eof", *options]
        command += ["-connect", f"127.0.0.1:{server.port}"]
        done = subprocess.run(
            command, input="" if early else text, capture_output=True, text=True, timeout=30, check=True
        )
        assert "HTTP/1.1 200 OK" in done.stdout
        return done.stdout

    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        say(0, "-sess_out", session)
        for number in range(1, 6):
            assert "Early data was accepted" in say(number, "-sess_in", session, "-early_data", request)
        say(6, "-sess_in", session)
    spans = collector.spans()
    told = Counter((span.kind, span.path, span.attributes["http.response.status_code"]) for span in spans)
    assert told == {(kind, f"/r/{run}/{n:05d}", 200): 1 for kind in ("CLIENT", "SERVER") for n in range(7)}
    assert {span.resource["service.name"] for span in spans} == {"openssl", "nginx"}
    resumed = Counter(span.attributes["tls.resumed"] for span in spans)
    assert resumed == {True: 12, False: 2}
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


def test_much_of_it(tier: str, folder: Path, run: str) -> None:
    """Bodies of 30 MB, up and down: sizes are exact where the head tells them, and otherwise said to be unknown, for
    the bytes that frame them are not copied."""
    size = 30_000_000
    server = start_secured("gunicorn-gthread", folder)
    base = base_url("v4", server.port, scheme="https")
    requests = [
        Request(id="down", url=f"{base}/r/{run}/down?size={size}"),
        Request(id="up", method="POST", url=f"{base}/r/{run}/up?size=1", body=size),
        Request(id="both", method="PUT", url=f"{base}/r/{run}/both?size={size}&chunked=1", body=size, chunked=True),
        Request(id="small", url=f"{base}/r/{run}/small?size=5"),
    ]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("requests", requests, folder, concurrency=1, environment=certificate(folder).trust)
        told = over_tls(expect.both_ends(asked, server))
        expected = [truth.replace(one, framing_beyond=one.path.endswith("/both")) for one in told]
    truth.assert_equal(expected, collector.spans())
    balance.parse(collector.stderr()).assert_balanced()
