"""Real servers: every request one real client makes of them becomes its two spans, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.harness import expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import Family, Request, app_plan, base_url

COUNT = 97
FAMILIES: tuple[Family, ...] = ("v4", "v6")


def plan_for(server: servers.Server, family: Family, run: str, count: int = COUNT) -> list[Request]:
    base = base_url(family, server.port)
    make = app_plan if server.reads_query else expect.file_plan
    return make(f"{run}{family}", base, count, agent=f"go-client/{family}")


@pytest.mark.parametrize("name", servers.SERVERS)
def test_every_request_of_a_server(name: str, tier: str, folder: Path, run: str) -> None:
    """Spans equal requests one to one, on both sides, over IPv4 and IPv6."""
    server = servers.start(name, folder)
    expected = []
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        for family in FAMILIES:
            asked = ask("go", plan_for(server, family, run), folder, name=f"client-{family}")
            expected += expect.both_ends(asked, server, listed=name != "apache")
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")
