"""How many TLS requests are attributed to the socket that carried them, by client and by server; how many wrongly."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from benchmarks.harness import Bench
from benchmarks.programs import tool
from benchmarks.report import Result, figure
from integration.harness import expect, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import app_plan, base_url
from integration.harness.secured import certificate, over_tls, start_secured
from integration.harness.spans import SeenSpan

CLIENTS = ("curl", "requests", "httpx", "aiohttp", "fetch")
"""Each asks nginx, eight requests at a time."""
SERVERS = ("gunicorn-sync", "uvicorn", "node")
"""Each is asked by requests, as is nginx."""
REQUESTS = 61
"""Of a round: as many as the integration tests ask for."""
NEEDED = (("nginx", "nginx-light", "/usr/sbin/nginx"), ("curl", "curl"), ("node", "nodejs"), ("openssl", "openssl"))


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the requests at one end."""

    asked: int
    spans: int
    attributed: int
    """Spans that tell their peer."""
    wrong: int
    """Those of them whose socket is another than the one by which the server says it was asked."""


def measure(bench: Bench) -> Result:
    """Every client against nginx, every server against requests."""
    for needed in NEEDED:
        tool(*needed)
    pairs = [(client, "nginx") for client in CLIENTS] + [("requests", server) for server in SERVERS]
    told: dict[str, list[Told]] = {}
    for index in range(bench.rounds(3)):
        for client, server in pairs:
            bench.say(f"{client} asks {server}, round {index + 1}")
            of_client, of_server = _both_ends(bench.folder / f"{client}-{server}-{index}", client, server)
            if server == "nginx":
                told.setdefault(f"client {client}", []).append(of_client)
            if client == "requests":
                told.setdefault(f"server {server}", []).append(of_server)
    figures = []
    for name, ends in told.items():
        figures += [
            figure(f"{name}: requests that became spans", "%", [100 * end.spans / end.asked for end in ends], "100"),
            figure(f"{name}: attributed", "%", [100 * end.attributed / max(end.spans, 1) for end in ends], "100"),
            figure(f"{name}: attributed to a wrong socket", "", [end.wrong for end in ends], "0"),
        ]
    return Result(
        name="attribution",
        question=f"of {REQUESTS} requests over TLS, how many does each end attribute to the socket that carried them?",
        commands=["otelbpf run --export file:SPANS --port PORT"],
        figures=figures,
    )


def _both_ends(folder: Path, client: str, name: str) -> tuple[Told, Told]:
    run = secrets.token_hex(4)
    folder.mkdir(mode=0o755)
    server = start_secured(name, folder)
    base = base_url("v4", server.port, scheme="https")
    plan = (app_plan if server.reads_query else expect.file_plan)(run, base, REQUESTS, agent="bench")
    with Collector(folder, tls=True, tier="auto", ports=[server.port]) as collector, server:
        asked = ask(client, plan, folder, environment=certificate(folder).trust)
        expected = over_tls(expect.both_ends(asked, server))
    return _told("CLIENT", expected, collector.spans()), _told("SERVER", expected, collector.spans())


def _told(kind: str, expected: list[truth.Expected], spans: list[SeenSpan]) -> Told:
    wanted = {one.key: one for one in expected if one.kind == kind}
    seen = {truth.key_of(span): span for span in spans}
    found = [(one, seen[key]) for key, one in wanted.items() if key in seen]
    attributed = [(one, span) for one, span in found if span.attributes["otelbpf.tls.evidence"] != "none"]
    return Told(
        asked=len(wanted),
        spans=len(found),
        attributed=len(attributed),
        wrong=sum(not _is_right(one, span) for one, span in attributed),
    )


def _is_right(one: truth.Expected, span: SeenSpan) -> bool:
    """The client's port tells its connections apart; a server sees it as its peer's."""
    if one.kind == "SERVER":
        return bool(span.attributes.get("network.peer.port") == one.peer_port)
    local = (span.attributes.get("network.local.address"), span.attributes.get("network.local.port"))
    return local == one.local
