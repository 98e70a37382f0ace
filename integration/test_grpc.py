"""gRPC between real programs: every call its two spans, exactly, whatever its kind and its end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from integration.harness import balance, calls
from integration.harness.collector import Collector
from integration.harness.secured import certificate

pytestmark = pytest.mark.usefixtures("alone")

PAIRS = [
    ("python", "python"),
    ("go", "go"),
    ("node", "node"),
    ("java", "java"),
    ("go", "python"),
    ("python", "go"),
    ("node", "go"),
    ("java", "go"),
    ("python", "java"),
]


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_every_call(server: str, client: str, tier: str, folder: Path, run: str) -> None:
    """All four kinds, fifty at a time on one connection, error statuses, deadline and cancellation."""
    plan = calls.plan(run, 104)
    serving = calls.Server(server, plan, folder)
    with Collector(folder, tier=tier, ports=[serving.port]) as collector:
        played = calls.play(client, serving, plan, folder, at_once=50)
        serving.running.stop()
    calls.assert_equal(played, collector.spans())
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_every_call_inside_tls(tier: str, folder: Path, run: str) -> None:
    """node with node: the same, and messages of a megabyte, each of which is one call of the library or a few."""
    plan = calls.plan(run, 104)
    big = 1_000_000
    plan += [
        calls.Call(
            id=f"big{number}",
            method=f"/r{run}.Big{number}/Unary",
            size=big + number,
            ask=f"size={big - number}",
            response_size=calls.PREFIX + big - number,
        )
        for number in range(6)
    ]
    identity = certificate(folder)
    files = {"CERTIFICATE": str(identity.file), "KEY": str(identity.key)}
    serving = calls.Server("node", plan, folder, environment=files)
    with Collector(folder, tls=True, tier=tier, ports=[serving.port]) as collector:
        played = calls.play("node", serving, plan, folder, at_once=50, environment=files)
        serving.running.stop()
    calls.assert_equal(played, collector.spans())
    assert {span.attributes["otelbpf.tls.evidence"] for span in collector.spans()} == {"record_lengths"}
    balance.parse(collector.stderr()).assert_nothing_lost()


@pytest.mark.parametrize("server", ["python", "go"])
def test_calls_on_a_connection_open_before(server: str, tier: str, folder: Path, run: str) -> None:
    """Each later call is told once a side, by its own path. What stands in header tables from before is unknown, even
    that it is a call, where the content types do: then it is a POST of HTTP/2 that names what it lacks."""
    first, later = calls.plan(f"{run}a", 13, endings=False), calls.plan(f"{run}b", 26, endings=False)
    serving = calls.Server(server, [*first, *later], folder)
    before = calls.play("python", serving, first, folder, at_once=4)
    with Collector(folder, tier=tier, ports=[serving.port]) as collector:
        played = calls.play_on(before, later, folder)
        serving.running.stop()
    spans = collector.spans()
    told = Counter((span.kind, calls.method_of(span) or span.path[1:]) for span in spans)
    assert told == {(kind, call.method[1:]): 1 for kind in ("CLIENT", "SERVER") for call in played.calls}
    expected = {call.method[1:]: call for call in played.calls}
    for span in spans:
        call = expected[calls.method_of(span) or span.path[1:]]
        assert span.attributes.get("rpc.response.status_code", call.status) == call.status
        assert span.attributes.get("otelbpf.rpc.request.messages", call.requests) == call.requests
        assert "rpc.response.status_code" in span.attributes or "*" in span.attributes["otelbpf.unknown"]
        assert span.attributes["http.request.body.size"] == call.requests * (calls.PREFIX + call.size)
    balance.parse(collector.stderr()).assert_nothing_lost()
