"""What was there before the collector: open connections, requests under way; and what comes after it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.keep_alive import KeepAlive
from integration.harness.plan import app_plan, base_url


@pytest.mark.parametrize("name", ["go", "gunicorn-gthread", "node"])
def test_connections_open_before(name: str, tier: str, folder: Path, run: str) -> None:
    """Of a connection that was open, exactly the requests made after the start are told, all of them."""
    server = servers.start(name, folder)
    with contextlib.ExitStack() as open_clients:
        clients = [open_clients.enter_context(KeepAlive(server, folder, name=f"client-{n}")) for n in range(5)]
        for n, client in enumerate(clients):
            for turn in range(n):
                client.ask(f"/r/{run}/{n}-before-{turn}?size=900", method="POST", body=700)
        expected = []
        with Collector(folder, tier=tier, ports=[server.port]) as collector:
            for n, client in enumerate(clients):
                later = [
                    client.ask(f"/r/{run}/{n}-after-{turn}?size=20000", method="POST", body=15_000) for turn in range(7)
                ]
                expected += client.expected(later)
            open_clients.close()
            server.running.stop()
    truth.assert_equal(expected, collector.spans(), linked=False)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}
    # The client that had made no request had no connection either: its own was opened, not joined.
    assert (sheet.lists["connections"]["joined"], sheet.lists["connections"]["opened"]) == (8, 2)


def test_a_request_under_way(tier: str, folder: Path, run: str) -> None:
    """A request that was asked before the start is not told, its answer is nobody's, and the next ones are whole."""
    server = servers.start("go", folder)
    with KeepAlive(server, folder) as client:
        client.ask(f"/r/{run}/first")
        gate = folder / "gate"
        slow = client.begin(f"/r/{run}/under-way?size=3000&gate={gate}")
        with Collector(folder, tier=tier, ports=[server.port]) as collector:
            gate.touch()
            client.end(slow)
            later = [client.ask(f"/r/{run}/{turn}?size=100", method="PUT", body=50) for turn in range(5)]
            client.__exit__()
            server.running.stop()
    truth.assert_equal(client.expected(later), collector.spans(), linked=False)
    balance.parse(collector.stderr()).assert_balanced()


def test_an_upload_under_way(tier: str, folder: Path, run: str) -> None:
    """The rest of a body, begun before the start, is no request, and does not hide the next one."""
    server = servers.start("go", folder)
    with KeepAlive(server, folder) as client:
        upload = client.begin_half(f"/r/{run}/upload", body=400_000)
        with Collector(folder, tier=tier, ports=[server.port]) as collector:
            client.go_on()
            client.end(upload)
            later = [client.ask(f"/r/{run}/{turn}?size=100") for turn in range(5)]
            client.__exit__()
            server.running.stop()
    truth.assert_equal(client.expected(later), collector.spans(), linked=False)
    balance.parse(collector.stderr()).assert_balanced()


@pytest.mark.parametrize("name", ["nginx", "gunicorn-sync", "java"])
def test_servers_started_after(name: str, tier: str, folder: Path, run: str) -> None:
    """A server that starts when the collector already runs is seen from its first request on."""
    with Collector(folder, tier=tier) as collector, servers.start(name, folder) as server:
        make = app_plan if server.reads_query else expect.file_plan
        asked = ask("go", make(run, base_url("v4", server.port), 43, agent="go"), folder)
    spans = [
        span for span in collector.spans() if server.port in server_ports(span.attributes) and span.path != "/ready"
    ]
    truth.assert_equal(expect.both_ends(asked, server), spans, exact_sends=tier == "kprobe")


def server_ports(attributes: dict[str, object]) -> tuple[object, object]:
    """Both ports of a span's connection."""
    return attributes["network.local.port"], attributes["network.peer.port"]
