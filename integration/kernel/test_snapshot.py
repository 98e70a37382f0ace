"""From the kernel to the metrics: a known load gives exactly those numbers."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable

from integration.kernel import measured, workload
from integration.kernel.conftest import Run
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Family
from otelbpf.pipeline import Pipeline
from otelbpf.sources.live import LiveSource
from otelbpf.telemetry.ledger import Ledger

EXCHANGES = 23
REQUEST, RESPONSE = len(workload.REQUEST), len(workload.RESPONSE)

Numbers = dict[str, dict[tuple[str, ...], int | float]]
"""By metric and the values of its attributes; of histograms their count."""


def measure(tier: str, pid: int, load: Callable[[], object]) -> Numbers:
    """What is measured of process `pid` while `load` runs."""
    source = LiveSource(tier=tier, pids=[pid], keep_privileges=True)
    pipeline = Pipeline(ledger=Ledger(), emit=lambda spans: None, source=source)

    def read() -> None:
        for records in source.batches():
            pipeline.feed(records)
        pipeline.finish()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        load()
    finally:
        source.stop()
        thread.join()
        source.close()
    return flat(pipeline.measures.snapshot())


def flat(families: list[Family]) -> Numbers:
    services = {point.service for family in families for point in family.points if point.service}
    assert len(services) == 1, services
    return {
        family.name.removeprefix("otelbpf."): {
            tuple(str(value) for _, value in point.attributes): point.value.count
            if isinstance(point.value, Histogram)
            else point.value
            for point in family.points
        }
        for family in families
    }


def test_exchanges_between_two_ends_of_one_process(tier: str, do: Run) -> None:
    found = measure(tier, do(os.getpid), lambda: do(workload.many_exchanges, EXCHANGES))

    (service,) = {peer for _, peer in found["connection.open"]}
    client, server = ("client", service), ("server", service)
    assert found["connection.attempts"] == {client: EXCHANGES}
    assert found["connection.accepted"] == {server: EXCHANGES}
    assert found["connection.failures"] == {}
    assert found["connection.open"] == {client: 0, server: 0}
    assert found["connection.connect.duration"] == {client: EXCHANGES}
    assert found["connection.rtt"] == {client: EXCHANGES, server: EXCHANGES}
    assert found["connection.io"] == {
        (*client, "transmit"): EXCHANGES * REQUEST,
        (*client, "receive"): EXCHANGES * RESPONSE,
        (*server, "transmit"): EXCHANGES * RESPONSE,
        (*server, "receive"): EXCHANGES * REQUEST,
    }
    assert found["connection.uncounted"] == {("no_process",): 0, ("evicted",): 0}
    assert found["request.open"] == {("client",): 0, ("server",): 0}
    assert found["request.open.max"] == {("client",): 1, ("server",): 1}
    assert found["socket.wait.duration"] == {("server",): EXCHANGES}
    assert found["socket.wait.unknown"] == {("server",): 0}


def test_connections_that_came_to_nothing(tier: str, do: Run) -> None:
    def load() -> None:
        do(workload.refused)
        do(measured.unreachable)
        do(measured.unanswered)
        do(workload.refused)

    found = measure(tier, do(os.getpid), load)

    failures: Counter[str] = Counter()
    for (*_, reason, phase), count in found["connection.failures"].items():
        assert phase == "connect"
        failures[reason] += int(count)
    assert failures == {"refused": 2, "unreachable": 1, "timeout": 1}
    assert sum(found["connection.attempts"].values()) == 4
    assert set(found["connection.open"].values()) == {0}
