"""Under load: nothing is lost; and where the ring is too small for it, every loss is counted and no span is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from integration.harness import balance, load, servers
from integration.harness.collector import Collector
from integration.harness.plan import base_url
from integration.harness.processes import SLOW, wait_for

SECONDS = 1


def test_every_request_of_a_load(tier: str, folder: Path, run: str) -> None:
    """wrk on 64 connections at a rate the collector can follow: each line of nginx's log is one SERVER span and each
    of wrk's requests one CLIENT span; the bytes of both are what nginx counted."""
    server = servers.start("nginx", folder)
    # A ring that holds all of it: what is asked here is whether anything is lost on the way behind it.
    big = {"OTELBPF_CAPTURE_RING_BYTES": "1GiB"}
    with Collector(folder, tier=tier, ports=[server.port], environment=big) as collector, server:
        wrk = load.start_wrk(
            base_url("v4", server.port), f"/r/{run}", folder, connections=64, seconds=SECONDS, pause_ms=10
        )
        sent, answered = load.totals(wrk)
    log = load.access_log(server)
    spans = collector.spans()
    ours = {kind: [span for span in spans if span.kind == kind] for kind in ("SERVER", "CLIENT")}
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()

    assert answered > 1000 / SLOW, "too little load to prove anything"
    assert load.strangers(log, ours["SERVER"]) == []
    assert len(ours["SERVER"]) == len(log)
    assert {span.pid for span in ours["CLIENT"]} == {wrk.pid}
    # wrk ends with requests under way: those it sent have a span, answered or not. `request` may have been called for
    # one more a connection, which then was not sent.
    paths = Counter(span.path for span in ours["CLIENT"])
    assert max(paths.values()) == 1
    statuses = Counter(span.attributes.get("http.response.status_code") for span in ours["CLIENT"])
    assert statuses[200] >= answered
    assert set(statuses) <= {200, None}
    assert paths.keys() >= {row.path for row in log}
    assert len(paths) <= sent
    assert sheet.lost == {}


def test_bytes_are_those_the_server_counts(tier: str, folder: Path, run: str) -> None:
    """Traced for nginx alone, the kernel's bytes are exactly nginx's own."""
    server = servers.start("nginx", folder)
    pids = [word for pid in sorted(server.pids()) for word in ("--pid", str(pid))]
    with Collector(folder, *pids, tier=tier, ports=[server.port]) as collector, server:
        wrk = load.start_wrk(base_url("v4", server.port), f"/r/{run}", folder, connections=8, seconds=1, pause_ms=2)
        load.totals(wrk)
    log = load.access_log(server)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.bytes["sent and received, says the kernel"] == sum(row.received + row.sent for row in log)
    assert {span.kind for span in collector.spans()} == {"SERVER"}
    assert len(collector.spans()) == len(log)


@pytest.mark.parametrize("what", ["bare", "files"])
def test_a_ring_too_small(what: str, tier: str, folder: Path, run: str) -> None:
    """Records that find no room are counted; no span tells anything that was not; every account balances."""
    server = servers.start("nginx", folder)
    tiny = {"OTELBPF_CAPTURE_RING_BYTES": "64KiB"}
    prefix, suffix = ("/r", "") if what == "bare" else ("/f", "/page")
    with Collector(folder, tier=tier, ports=[server.port], environment=tiny) as collector, server:
        url = base_url("v4", server.port)
        wrk = load.start_wrk(url, f"{prefix}/{run}", folder, connections=64, seconds=SECONDS, suffix=suffix)
        load.totals(wrk)
    log = load.access_log(server)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    events = sheet.lists["left out by the probes, events"]
    assert events["ring_full_data"] > 0, "the ring was not too small: this proves nothing"
    # Each byte for which the ring had no room is told by the socket's closing. Where that found no room either, its
    # bytes are holes without a reason, or known to the kernel's own count alone.
    told, counted = sheet.unseen["ring_full"], sheet.lists["left out by the probes, bytes"]["ring_full_data"]
    if events.get("ring_full_state", 0) == 0:
        assert (told, sheet.unseen.get("hole", 0)) == (counted, 0)
    else:
        assert told + sheet.unseen.get("hole", 0) <= counted
    assert load.strangers(log, [span for span in collector.spans() if span.kind == "SERVER"]) == []


def test_a_table_too_small(tier: str, folder: Path, run: str) -> None:
    """More connections than the collector may follow: those that give way are counted, the others are exact."""
    server = servers.start("nginx", folder)
    small = {"OTELBPF_LIMITS_CONNECTIONS": "16"}
    with Collector(folder, tier=tier, ports=[server.port], environment=small) as collector, server:
        wrk = load.start_wrk(base_url("v4", server.port), f"/r/{run}", folder, connections=48, seconds=1, pause_ms=10)
        load.totals(wrk)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lists["connections"]["evicted"] > 0
    assert load.strangers(load.access_log(server), [s for s in collector.spans() if s.kind == "SERVER"]) == []


def test_ended_under_load(tier: str, folder: Path, run: str) -> None:
    """SIGTERM in the middle of a load: what was whole is exported, what was not is counted, all of it balances."""
    server = servers.start("nginx", folder)
    with server, Collector(folder, tier=tier, ports=[server.port]) as collector:
        wrk = load.start_wrk(base_url("v4", server.port), f"/r/{run}", folder, connections=32, seconds=60, pause_ms=10)
        with wrk:
            wait_for("spans", lambda: collector.spans_path.stat().st_size > 100_000)
            collector.finish()
    log = load.access_log(server)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert set(sheet.lost) <= {"shutdown"}
    servers_spans = [span for span in collector.spans() if span.kind == "SERVER"]
    assert load.strangers(log, servers_spans) == []
    # All that nginx had answered before the first span lacking is there: spans are a prefix of each connection's log.
    ends: dict[int, list[str]] = {}
    for row in log:
        ends.setdefault(row.port, []).append(row.path)
    told: dict[int, list[str]] = {}
    for span in sorted(servers_spans, key=lambda span: span.start_ns):
        told.setdefault(span.attributes["network.peer.port"], []).append(span.path)
    assert told.keys() == ends.keys()
    for port, paths in told.items():
        assert paths == ends[port][: len(paths)]
