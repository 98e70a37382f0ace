"""gRPC-Web over HTTP/1 between real programs: every call its spans, with the status that stands in the body."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from integration.harness import balance, calls, envoy, servers
from integration.harness.collector import Collector
from integration.harness.spans import SeenSpan

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 54
MS = 1_000_000
# Kind, size of the message, wishes, status, messages of the answer, their sizes together. What a server of grpcio sends
# is a message of Connect's if it is nine bytes long, or any times nine.
SHAPES: tuple[tuple[str, int, str, str, int, int], ...] = (
    ("Unary", 10, "size=18", "OK", 1, 18),
    ("Unary", 0, "size=0", "OK", 1, 0),
    ("Unary", 3000, "size=4005", "OK", 1, 4005),
    # Longer than what is copied unless it is known to be gRPC-Web's, which its request tells.
    ("Unary", 50, "delay=1000&size=45000", "OK", 1, 45_000),
    ("ServerStream", 5, "responses=6&size=54", "OK", 6, 324),
    ("ServerStream", 5, "responses=0", "OK", 0, 0),
    ("Unary", 10, "status=5", "NOT_FOUND", 0, 0),
    ("Unary", 10, "status=13", "INTERNAL", 0, 0),
    ("ServerStream", 5, "responses=3&size=9&status=14", "UNAVAILABLE", 3, 27),
)
LATE = calls.Call(id="late", method="", size=10, ask="delay=1500&size=9", timeout_ms=300, status="DEADLINE_EXCEEDED")


def plan(run: str) -> list[calls.Call]:
    """Every shape in turn; every service is another."""
    return [
        calls.Call(
            id=f"{number:05d}",
            method=f"/r{run}.S{number:05d}/{kind}",
            size=size,
            ask=ask,
            status=status,
            responses=responses,
            response_size=content,
        )
        for number in range(COUNT)
        for kind, size, ask, status, responses, content in [SHAPES[number % len(SHAPES)]]
    ]


def expected(call: calls.Call, kind: str, service: str, version: str) -> tuple[object, ...]:
    """What one end of a call is to tell."""
    failed = call.status in calls.OF_SERVER if kind == "SERVER" else call.status != "OK"
    asked = (call.requests, call.requests * (calls.PREFIX + call.size))
    return kind, service, call.method[1:], call.status, call.status if failed else None, version, *asked, call.responses


def told(span: SeenSpan) -> tuple[object, ...]:
    """And what it tells."""
    names = ["rpc.method", "rpc.response.status_code", "error.type", "network.protocol.version"]
    names += ["otelbpf.rpc.request.messages", "http.request.body.size", "otelbpf.rpc.response.messages"]
    assert span.attributes["rpc.system.name"] == "grpc"
    assert "otelbpf.unknown" not in span.attributes
    return span.kind, span.resource["service.name"], *map(span.attributes.get, names)


def assert_told(played: calls.Played, spans: list[SeenSpan], hops: list[tuple[str, str, str]]) -> None:
    """Of every call the two ends of every hop, the one the other's parent. A hop is from a service to another, in a
    version of HTTP. Behind the messages stands one block of trailers, the same for each status; without messages there
    may be none, for the status can be in the head."""
    wanted = Counter(
        expected(call, kind, service, version)
        for call in played.calls
        for client, server, version in hops
        for kind, service in (("CLIENT", client), ("SERVER", server))
    )
    seen = Counter(map(told, spans))
    assert seen == wanted, f"missing: {wanted - seen}\nnot expected: {seen - wanted}"
    clients = {span.span_id: span for span in spans if span.kind == "CLIENT"}
    content = {call.method[1:]: call for call in played.calls}
    blocks: set[tuple[str, str, bool, int]] = set()
    for span in spans:
        call = content[calls.method_of(span)]
        assert call.responses is not None
        assert call.response_size is not None
        rest = span.attributes["http.response.body.size"] - call.responses * calls.PREFIX - call.response_size
        blocks.add((span.attributes["network.protocol.version"], call.status, call.responses > 0, rest))
        if span.kind == "SERVER":
            parent = clients[span.parent_id]
            assert (parent.trace_id, calls.method_of(parent)) == (span.trace_id, calls.method_of(span))
            assert parent.attributes["network.protocol.version"] == span.attributes["network.protocol.version"]
            assert parent.attributes["http.response.body.size"] == span.attributes["http.response.body.size"]
    assert len(blocks) == len({block[:-1] for block in blocks}), blocks


def test_connect(tier: str, folder: Path, run: str) -> None:
    """Client and server, on eight connections."""
    asked = plan(run)
    serving = calls.Server("web", asked, folder)
    with Collector(folder, tier=tier, ports=[serving.port]) as collector:
        played = calls.play("web", serving, asked, folder, at_once=8)
        serving.running.stop()
    assert_told(played, collector.spans(), [("client-web", "server-web", "1.1")])
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_a_deadline_that_passes(tier: str, folder: Path, run: str) -> None:
    """The client closes the connection, and says no more; both ends tell why."""
    late = msgspec.structs.replace(LATE, method=f"/r{run}.Late/Unary")
    serving = calls.Server("web", [late], folder)
    with Collector(folder, tier=tier, ports=[serving.port]) as collector:
        line = calls.play("web", serving, [late], folder, at_once=1).lines[late.id]
        serving.running.stop()
    names = ("rpc.method", "rpc.response.status_code", "error.type", "otelbpf.reset")
    code = "DEADLINE_EXCEEDED"
    assert sorted((span.kind, *map(span.attributes.get, names)) for span in collector.spans()) == [
        (kind, late.method[1:], code, code, "connection_closed") for kind in ("CLIENT", "SERVER")
    ]
    (client,) = (span for span in collector.spans() if span.kind == "CLIENT")
    assert line.start_ns - MS <= client.start_ns < client.end_ns - 250 * MS <= line.end_ns - 250 * MS
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_envoy_that_makes_grpc_of_it(tier: str, folder: Path, run: str) -> None:
    """As browsers' calls come: gRPC-Web to Envoy, and HTTP/2 from there to a server of grpcio."""
    asked = plan(run)
    serving = calls.Server("python", asked, folder)
    behind = servers.Server(
        name="python", port=serving.port, service="server-python", running=serving.running, reads_query=False
    )
    front = envoy.start(folder, behind, web=True)
    serving.port = front.port
    with Collector(folder, tier=tier, ports=[front.port, behind.port]) as collector:
        played = calls.play("web", serving, asked, folder, at_once=8)
        front.running.stop()
        serving.running.stop()
    hops = [("client-web", "test-envoy", "1.1"), ("test-envoy", "server-python", "2")]
    assert_told(played, collector.spans(), hops)
    balance.parse(collector.stderr()).assert_nothing_lost()
