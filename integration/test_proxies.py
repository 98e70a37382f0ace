"""A request that passes through a proxy: four spans, each end of each hop, exactly."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from integration.harness import expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import base_url
from integration.harness.truth import Expected, replace

COUNT = 61


@pytest.mark.parametrize("proxy", ["nginx", "apache", "caddy"])
def test_four_spans_a_request(proxy: str, tier: str, folder: Path, run: str) -> None:
    """The client's, the proxy's as server and as client, the upstream's."""
    upstream = servers.start("go", folder)
    front = servers.start(proxy, folder, upstream=upstream.port)
    with Collector(folder, tier=tier, ports=[front.port, upstream.port]) as collector, upstream, front:
        plan = expect.file_plan(run, base_url("v4", front.port), COUNT, agent="go", kinds=("proxy", "files"))
        asked = ask("go", plan, folder)
    expected: list[Expected] = []
    for request in plan:
        answer = asked.answers[request.id]
        # Apache does not add its header to its own error pages.
        (pid, address, port), *behind = expect.hops(answer.peer) or expect.hops("- 127.0.0.1 0")
        pids = front.pids() if pid is None else frozenset([pid])
        inner = expect.server_span(front, request, answer, pids=pids, client=address, client_port=port or None)
        expected += [expect.client_span(asked, request, answer, local=(address, port) if port else None), inner]
        if not urlsplit(request.url).path.startswith("/p/"):
            continue
        # The proxy keeps the Host of the request, so that is the server which both further spans name.
        backend_pid, _, backend_port = behind[0] if behind else (None, "", None)
        assert backend_pid in (None, upstream.running.pid)
        onward = replace(
            inner,
            kind="CLIENT",
            peer_address="127.0.0.1",
            peer_port=upstream.port,
            local=("127.0.0.1", backend_port) if backend_port else None,
        )
        last = replace(
            inner,
            pids=upstream.pids(),
            service=upstream.service,
            peer_port=backend_port,
            local=("127.0.0.1", upstream.port),
            client_address="" if proxy == "nginx" else address,
        )
        expected += [onward, last]
    spans = collector.spans()
    by_hop = {
        port: [s for s in spans if server_end(s.kind, s.attributes) == port] for port in (front.port, upstream.port)
    }
    assert sum(map(len, by_hop.values())) == len(spans)
    for port, of_hop in by_hop.items():
        wanted = [
            one for one in expected if (one.peer_port if one.kind == "CLIENT" else one.local and one.local[1]) == port
        ]
        truth.assert_equal(wanted, of_hop, exact_sends=tier == "kprobe")


def server_end(kind: str, attributes: dict[str, int]) -> int:
    """The port of a connection's server."""
    return attributes["network.peer.port" if kind == "CLIENT" else "network.local.port"]
