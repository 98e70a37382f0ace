"""Inside TLS: every request of real programs becomes its two spans, as it would in plain text."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from integration.harness import balance, envoy, expect, proxied, servers, truth
from integration.harness.clients import Asked, ask
from integration.harness.collector import Collector
from integration.harness.keep_alive import KeepAlive
from integration.harness.plan import Request, app_plan, base_url
from integration.harness.programs import tool
from integration.harness.secured import certificate, over_tls, start_secured
from integration.harness.unread import assert_named

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 61
VERSIONS = ("1.2", "1.3")


def plan_for(server: servers.Server, run: str, agent: str = "client") -> list[Request]:
    base = base_url("v4", server.port, scheme="https")
    if server.reads_query:
        return app_plan(run, base, COUNT, agent=agent)
    return expect.file_plan(run, base, COUNT, agent=agent)


def assert_told(expected: list[truth.Expected], collector: Collector, *, evidence: set[str], version: str = "") -> None:
    """The spans are those expected, each says how its socket is known, and every account balances."""
    spans = collector.spans()
    truth.assert_equal(expected, spans)
    assert {span.attributes["otelbpf.tls.evidence"] for span in spans} == evidence
    if version:
        assert {span.attributes["tls.protocol.version"] for span in spans} == {version}
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_and_nginx(version: str, tier: str, folder: Path, run: str) -> None:
    """Both call their library around their own calls on the socket: the proof is in the nesting."""
    server = start_secured("nginx", folder, version=version)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("curl", plan_for(server, run), folder, environment=certificate(folder).trust)
        expected = over_tls(expect.both_ends(asked, server))
    assert_told(expected, collector, evidence={"nested_call"}, version=version)
    assert {span.attributes["tls.cipher"][:4] for span in collector.spans()} == {"TLS_"}


def test_http2_inside(tier: str, folder: Path, run: str) -> None:
    """By ALPN, from the first frame: every stream of curl's one connection."""
    server = start_secured("nginx", folder, version="1.3", http2=True)
    plan = [replace(request, version="2") for request in plan_for(server, run)]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("curl", plan, folder, environment=certificate(folder).trust)
        expected = over_tls(expect.both_ends(asked, server))
    assert_told(expected, collector, evidence={"nested_call"}, version="1.3")


CLIENTS = {
    "requests": {"nested_call"},
    "httpx": {"record_lengths"},
    "aiohttp": {"record_lengths"},
    "fetch": {"record_lengths"},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_clients(client: str, version: str, tier: str, folder: Path, run: str) -> None:
    """Each asks nginx, eight requests at a time."""
    server = start_secured("nginx", folder, version=version)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask(client, plan_for(server, run), folder, environment=certificate(folder).trust)
        expected = over_tls(expect.both_ends(asked, server))
    assert_told(expected, collector, evidence={"nested_call"} | CLIENTS[client], version=version)


SERVERS = {
    "apache": {"nested_call"},
    "gunicorn-sync": {"nested_call"},
    "hypercorn": {"record_lengths"},
    "uvicorn": {"record_lengths"},
    "uvicorn-uvloop": {"record_lengths"},
    "node": {"record_lengths"},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SERVERS)
def test_servers(name: str, version: str, tier: str, folder: Path, run: str) -> None:
    """Each is asked by requests, eight connections at a time."""
    server = start_secured(name, folder, version=version)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("requests", plan_for(server, run), folder, environment=certificate(folder).trust)
        expected = over_tls(expect.both_ends(asked, server, listed=name != "apache"))
    assert_told(expected, collector, evidence={"nested_call"} | SERVERS[name], version=version)


def test_gnutls(tier: str, folder: Path, run: str) -> None:
    """wget of Debian."""
    server = start_secured("nginx", folder)
    base = f"https://localhost:{server.port}/r/{run}/"
    wget = [
        tool("wget", "wget"),
        "--quiet",
        "--output-document=/dev/null",
        f"--ca-certificate={certificate(folder).file}",
    ]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        subprocess.run([*wget, *(f"{base}{number}" for number in range(7))], check=True)
    told = sorted((span.kind, span.path) for span in collector.spans())
    assert told == sorted((kind, f"/r/{run}/{number}") for kind in ("CLIENT", "SERVER") for number in range(7))
    assert {span.attributes["otelbpf.tls.evidence"] for span in collector.spans()} == {"nested_call"}
    balance.parse(collector.stderr()).assert_balanced()


def test_the_name_a_client_asks_for(tier: str, folder: Path, run: str) -> None:
    """And the one protocol it offers."""
    server = start_secured("nginx", folder)
    url = f"https://localhost:{server.port}/r/{run}/1"
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        curl = [tool("curl", "curl"), "--silent", "--http1.1", "--cacert", str(certificate(folder).file), url]
        subprocess.run(curl, check=True, capture_output=True)
    for span in collector.spans():
        assert span.attributes["tls.client.server_name"] == "localhost"
        assert span.attributes["tls.next_protocol"] == "http/1.1"
    assert len(collector.spans()) == 2


@pytest.mark.parametrize("name", ["nginx", "uvicorn", "node"])
def test_connections_open_before(name: str, tier: str, folder: Path, run: str) -> None:
    """Of a connection that was open, exactly the requests made after the start are told, with its addresses."""
    server = start_secured(name, folder)
    path = "/r" if name != "nginx" else "/f"
    after = "?size=20000" if name != "nginx" else "/page"
    with contextlib.ExitStack() as open_clients:
        clients = [
            open_clients.enter_context(
                KeepAlive(server, folder, name=f"client-{n}", authority=certificate(folder).file)
            )
            for n in range(4)
        ]
        for n, client in enumerate(clients):
            client.ask(f"{path}/{run}/{n}-before{after}")
        expected = []
        with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector:
            for n, client in enumerate(clients):
                expected += client.expected([client.ask(f"{path}/{run}/{n}-{turn}{after}") for turn in range(5)])
            open_clients.close()
            server.running.stop()
    truth.assert_equal(over_tls(expected), collector.spans(), linked=False)
    balance.parse(collector.stderr()).assert_balanced()


def test_a_server_that_starts_later(tier: str, folder: Path, run: str) -> None:
    """Its library is one that nobody had mapped before: a copy of its own, which is read once the collector says so."""
    library = next(Path("/usr/lib/x86_64-linux-gnu").glob("libssl.so.3"))
    own = folder / "own"
    own.mkdir()
    (own / "libssl.so.3").write_bytes(library.read_bytes())
    with Collector(folder, tls=True, tier=tier) as collector:
        server = start_secured("uvicorn", folder, environment={"LD_LIBRARY_PATH": str(own)})
        with server:
            collector.wait_attached(own / "libssl.so.3", server.running.pid)
            asked = ask("requests", plan_for(server, run), folder, environment=certificate(folder).trust)
            expected = over_tls(expect.both_ends(asked, server))
    spans = [span for span in collector.spans() if f"/{run}/" in span.path]
    truth.assert_equal(expected, spans)


def connections(asked: Asked) -> int:
    """How many a client had, as the server that it asked knew them."""
    return len({expect.hops(answer.peer)[0][1:] for answer in asked.answers.values()})


def test_tls_that_cannot_be_read_is_named(tier: str, folder: Path, run: str) -> None:
    """A client in Go, of which nginx takes leave after every seventh request: they are told by nginx alone."""
    server = start_secured("nginx", folder, directives="keepalive_requests 7;")
    trust = {"SSL_CERT_FILE": str(certificate(folder).file)}
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        # One request at a time: a client that has several under way may open connections that it never uses.
        asked = ask("go", plan_for(server, run), folder, concurrency=1, environment=trust)
        expected = [one for one in over_tls(expect.both_ends(asked, server)) if one.kind == "SERVER"]
    truth.assert_equal(expected, collector.spans())
    assert connections(asked) == -(-COUNT // 7)
    assert_named(collector, "program", asked.pid, unread=connections(asked))


@pytest.mark.parametrize(("name", "program"), [("go", "program"), ("java", "java")])
def test_servers_that_cannot_be_read_are_named(name: str, program: str, tier: str, folder: Path, run: str) -> None:
    """crypto/tls and JSSE: two clients tell what they asked, one of them over a new connection for every third."""
    server = start_secured(name, folder)
    base, trust = base_url("v4", server.port, scheme="https"), certificate(folder).trust
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        pooled = ask("requests", app_plan(run, base, COUNT, agent="pooled"), folder, environment=trust)
        plan = app_plan(f"{run}-new", base, 30, agent="new", without=("chunked",))
        new = ask("sessions", plan, folder, concurrency=1, environment=trust)
        expected = over_tls(expect.both_ends(pooled, server) + expect.both_ends(new, server))
    assert_told([one for one in expected if one.kind == "CLIENT"], collector, evidence={"nested_call"})
    assert connections(new) == 10
    assert_named(collector, program, server.running.pid, unread=connections(pooled) + connections(new))


def test_a_proxy_that_cannot_be_read_is_named(tier: str, folder: Path, run: str) -> None:
    """Envoy has a TLS library within, and no symbols of it: what asks it is told, and what it passes on."""
    upstream = servers.start("hypercorn", folder)
    front = envoy.start(folder, upstream, identity=certificate(folder))
    hops = (front.port, upstream.port)
    with Collector(folder, tls=True, tier=tier, ports=hops) as collector, upstream, front:
        base = base_url("v4", front.port, scheme="https")
        plan = expect.file_plan(run, base, 19, agent="httpx", kinds=("proxy",))
        trust = certificate(folder).trust
        asked = ask("httpx-http2", [replace(one, version="2") for one in plan], folder, environment=trust)
        expected = proxied.spans_expected(
            asked, front, upstream, names_client=False, schemes=("https", "https"), onward_version="2"
        )
    seen = [one for one in expected if one.kind == "CLIENT" or one.service != front.service]
    proxied.assert_equal(seen, collector.spans(), hops)
    assert_named(collector, "envoy", front.running.pid, unread=connections(asked))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_alone_accuses_nobody(version: str, tier: str, folder: Path) -> None:
    """curl does not believe the certificate: there is nothing to be read, and nobody is named for it."""
    server = start_secured("nginx", folder, version=version)
    curl = [tool("curl", "curl"), "--silent", f"https://127.0.0.1:{server.port}/"]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        assert subprocess.run(curl, check=False, capture_output=True).returncode == 60
    assert "tls.not_read" not in collector.stderr()
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lists["connections"] == {"opened": 2, "tls": 2, "tls_not_used": 2}


def test_without_uprobes_the_rest_is_traced(tier: str, folder: Path, run: str) -> None:
    """Switched off: plain text is not read, ciphertext is counted."""
    server = start_secured("nginx", folder)
    with Collector(folder, tls=False, tier=tier, ports=[server.port]) as collector, server:
        ask("curl", plan_for(server, run), folder, environment=certificate(folder).trust)
    assert collector.spans() == []
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lists["connections"]["tls"] == sheet.lists["connections"]["opened"]
