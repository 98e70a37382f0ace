"""A real Jaeger receives what is exported, and its query API gives back those very spans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integration.harness import balance, calls, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.jaeger import BUILD_SECONDS, Jaeger
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import wait_for
from integration.harness.secured import certificate, over_tls, start_secured
from integration.harness.spans import SeenSpan

# The first of them builds Jaeger, which takes minutes where nothing of it was compiled before.
pytestmark = pytest.mark.timeout(BUILD_SECONDS + 120)

KINDS = {"server": "SERVER", "client": "CLIENT"}


def spans_of(jaeger: Jaeger, services: set[str]) -> list[SeenSpan]:
    """Every span Jaeger has of these services, in the form the file exporter's have."""
    by_id: dict[str, SeenSpan] = {}
    for service in services:
        for trace in jaeger.traces(service):
            for span in trace["spans"]:
                seen = from_jaeger(span, trace["processes"][span["processID"]])
                assert by_id.setdefault(seen.span_id, seen) == seen
    return list(by_id.values())


def from_jaeger(span: dict[str, Any], process: dict[str, Any]) -> SeenSpan:
    """Jaeger's own words, translated back (OpenTelemetry to Jaeger transformation, compatibility specification)."""
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    parents = [ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"]
    status = tags.pop("otel.status_code", "UNSET")
    kind = KINDS[tags.pop("span.kind")]
    for own in ("error", "otel.scope.name", "otel.scope.version", "w3c.tracestate", "internal.span.format"):
        tags.pop(own, None)
    resource = {tag["key"]: tag["value"] for tag in process["tags"]}
    return SeenSpan(
        trace_id=span["traceID"].rjust(32, "0"),
        span_id=span["spanID"].rjust(16, "0"),
        parent_id=parents[0].rjust(16, "0") if parents else "",
        flags=0,
        trace_state="",
        name=span["operationName"],
        kind=kind,
        start_ns=span["startTime"] * 1000,
        end_ns=(span["startTime"] + span["duration"]) * 1000,
        status=status,
        attributes=tags,
        resource={**resource, "service.name": process["serviceName"]},
    )


def same(file: SeenSpan, jaeger: SeenSpan) -> list[str]:
    """What Jaeger tells otherwise than the file. Its times are whole microseconds."""
    found = [
        f"{name}: {getattr(file, name)!r} != {getattr(jaeger, name)!r}"
        for name in ("trace_id", "span_id", "parent_id", "name", "kind", "status")
        if getattr(file, name) != getattr(jaeger, name)
    ]
    if abs(file.start_ns - jaeger.start_ns) > 1000 or abs(file.end_ns - jaeger.end_ns) > 2000:
        found.append("times differ")
    for what, mine, theirs in (
        ("attribute", file.attributes, jaeger.attributes),
        ("resource", file.resource, jaeger.resource),
    ):
        for key in mine.keys() | theirs.keys():
            a, b = mine.get(key), theirs.get(key)
            if a != b and not (isinstance(a, tuple) and isinstance(b, str)):
                found.append(f"{what} {key}: {a!r} != {b!r}")
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_jaeger_returns_those_very_spans(protocol: str, tier: str, folder: Path, run: str) -> None:
    """Ids, parents, names, times, attributes, resources: what Jaeger answers is what the file has, and the truth."""
    server = servers.start("go", folder)
    with Jaeger(folder) as jaeger:
        environment = jaeger.environment(protocol)
        with (
            Collector(folder, "--export", "otlp", tier=tier, ports=[server.port], environment=environment) as collector,
            server,
        ):
            asked = ask("go", app_plan(run, base_url("v4", server.port), 95, agent="go"), folder)
        services = {server.service, "client-go"}
        assert jaeger.services() == services
        stored = {span.span_id: span for span in spans_of(jaeger, services)}
    mine = collector.spans()
    truth.assert_equal(expect.both_ends(asked, server), mine, exact_sends=tier == "kprobe")
    assert stored.keys() == {span.span_id for span in mine}
    wrong = {span.span_id: lines for span in mine if (lines := same(span, stored[span.span_id]))}
    assert wrong == {}
    balance.parse(collector.stderr()).assert_balanced()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_jaeger_goes_away_and_comes_back(protocol: str, tier: str, folder: Path, run: str) -> None:
    """Under load Jaeger stops for a while: spans wait, export resumes by itself, and the account balances: the new
    Jaeger has what was exported since, and nothing was lost that the account does not name."""
    server = servers.start("nginx", folder)
    with Jaeger(folder) as jaeger:
        environment = jaeger.environment(protocol)
        with Collector(
            folder, "--export", "otlp", tier=tier, ports=[server.port], environment=environment
        ) as collector:
            url = base_url("v4", server.port)
            with server:
                ask("go", expect.file_plan(f"{run}a", url, 60, agent="go"), folder, name="before")
                wait_for("Jaeger to have them", lambda: len(spans_of(jaeger, {"nginx", "before"})) == 120)
                jaeger.stop()
                ask("go", expect.file_plan(f"{run}b", url, 2000, agent="go", kinds=("text",)), folder, name="during")
                jaeger.start_again()
                wait_for("export to resume", lambda: "during" in jaeger.services(), within_seconds=60)
                ask("go", expect.file_plan(f"{run}c", url, 60, agent="go"), folder, name="after")
        last = {"nginx", "during", "after"}
        wait_for("the last ones", lambda: jaeger.services() == last, otherwise=jaeger.services)
        stored = {span.span_id for span in spans_of(jaeger, last)}
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    mine = collector.spans()
    assert sheet.exporter("file")["exported"] == len(mine)
    account = sheet.exporter("otlp")
    assert account["accepted"] == len(mine)
    # The first Jaeger took what was done before it was stopped, its memory with it; all else is in the second.
    first = {span.span_id for span in mine if f"/{run}a/" in span.path}
    everything = {span.span_id for span in mine}
    assert stored <= everything - first
    missing = everything - first - stored
    assert len(missing) == account["accepted"] - account["exported"]
    assert account.get("lost: queue_full", 0) == len(missing), "only a full queue may have cost anything"


def test_a_call_and_a_request_inside_tls(tier: str, folder: Path, run: str) -> None:
    """Of gRPC and of HTTPS Jaeger has what it has of HTTP: both ends, the server's the client's child."""
    plan = calls.plan(run, 26)
    serving = calls.Server("python", plan, folder)
    secured = start_secured("nginx", folder, version="1.3")
    with Jaeger(folder) as jaeger:
        with (
            Collector(
                folder,
                "--export",
                "otlp",
                tier=tier,
                ports=[serving.port, secured.port],
                environment=jaeger.environment("grpc"),
                tls=True,
            ) as collector,
            secured,
        ):
            played = calls.play("python", serving, plan, folder, at_once=4)
            base = base_url("v4", secured.port, scheme="https")
            pages = expect.file_plan(run, base, 19, agent="requests", kinds=("text",))
            asked = ask("requests", pages, folder, environment=certificate(folder).trust)
            serving.running.stop()
        mine = collector.spans()
        stored = {span.span_id: span for span in spans_of(jaeger, jaeger.services())}
    inside = [span for span in mine if span.attributes.get("url.scheme") == "https"]
    calls.assert_equal(played, [span for span in mine if span not in inside])
    truth.assert_equal(over_tls(expect.both_ends(asked, secured)), inside)
    assert stored.keys() == {span.span_id for span in mine}
    assert {span.span_id: lines for span in mine if (lines := same(span, stored[span.span_id]))} == {}

    # As somebody sees it who looks there.
    of_calls = [span for span in stored.values() if "rpc.method" in span.attributes]
    assert {span.attributes["rpc.system.name"] for span in of_calls} == {"grpc"}
    known = [span for span in of_calls if span.attributes["rpc.method"] != "_OTHER"]
    assert [span for span in known if span.name != span.attributes["rpc.method"]] == []
    versions = {span.attributes.get("tls.protocol.version") for span in stored.values() if span not in of_calls}
    assert versions == {"1.3"}
