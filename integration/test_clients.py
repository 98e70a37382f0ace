"""Real clients: every request each of them makes of one real server becomes its two spans, exactly."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from integration.harness import expect, servers, truth
from integration.harness.clients import CLIENTS, Asked, ask
from integration.harness.collector import Collector
from integration.harness.plan import Answer, Family, Request, app_plan, base_url
from integration.harness.programs import tool

COUNT = 79
FAMILIES: tuple[Family, ...] = ("v4", "v6")


@pytest.mark.parametrize("client", CLIENTS)
def test_every_request_of_a_client(client: str, tier: str, folder: Path, run: str) -> None:
    """Spans equal requests one to one, on both sides, over IPv4 and IPv6, eight at a time where the client can."""
    server = servers.start("go", folder)
    expected = []
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        for family in FAMILIES:
            plan = app_plan(f"{run}{family}", base_url(family, server.port), COUNT, agent=f"{client}/{family}")
            expected += expect.both_ends(ask(client, plan, folder, name=f"client-{family}"), server)
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")


def test_a_name_instead_of_an_address(tier: str, folder: Path, run: str) -> None:
    """server.address is the name that was asked for; the peer is the address it led to."""
    server = servers.start("go", folder)
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        plan = app_plan(run, f"http://localhost:{server.port}", 19, agent="named")
        asked = ask("requests", plan, folder, concurrency=1)
    expected = []
    for request in plan:
        answer = asked.answers[request.id]
        ((pid, address, port),) = expect.hops(answer.peer)
        assert pid == server.running.pid
        expected.append(expect.client_span(asked, request, answer, local=(address, port), peer=address))
        expected.append(
            expect.server_span(server, request, answer, pids=server.pids(), client=address, client_port=port)
        )
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")


def test_java_offers_an_upgrade(tier: str, folder: Path, run: str) -> None:
    """A client that offers HTTP/2 in its first request, and is not taken up on it, speaks HTTP/1.1 all along."""
    server = servers.start("node", folder)
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        plan = app_plan(run, base_url("v4", server.port), 38, agent="java/2")
        asked = ask("java-upgrading", plan, folder)
    truth.assert_equal(expect.both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")


# What curl can do that a plan cannot say: options, method, status, size of the request's body, version.
WAYS: dict[str, tuple[list[str], str, int, int, str]] = {
    "continue": (["-H", "Expect: 100-continue", "--data-binary", "@{body}"], "POST", 200, 70_000, "1.1"),
    "upload": (["-T", "-"], "PUT", 200, 5_000, "1.1"),
    "upload-named": (["-T", "{body}"], "PUT", 200, 70_000, "1.1"),
    "http10": (["--http1.0"], "GET", 200, 0, "1.0"),
    "http10-post": (["--http1.0", "--data-binary", "@{body}"], "POST", 200, 70_000, "1.0"),
    "form": (["-F", "file=@{body}", "-H", "Content-Type: x/y"], "POST", 200, -1, "1.1"),
    "head": (["-I"], "HEAD", 200, 0, "1.1"),
    "brew": (["-X", "BREW"], "BREW", 200, 0, "1.1"),
    "long-header": (["-H", "X-Long: " + "v" * 7_000], "GET", 200, 0, "1.1"),
    "upgrade": (["--http2"], "GET", 200, 0, "1.1"),
    "proxy": (["--proxy", "http://127.0.0.1:{port}"], "GET", 200, 0, "1.1"),
}


@pytest.mark.parametrize("server_name", ["go", "nginx"])
def test_the_ways_of_curl(server_name: str, tier: str, folder: Path, run: str) -> None:
    """Continue, uploads, HTTP/1.0, forms, a long header, an offer to upgrade, a proxy: a process each."""
    server = servers.start(server_name, folder)
    body = folder / "body"
    body.write_bytes(b"x" * 70_000)
    expected = []
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        for name, (options, method, status, size, version) in WAYS.items():
            url = f"{base_url('v4', server.port)}/r/{run}/{name}"
            filled = [option.format(body=body, port=server.port) for option in options]
            asked, uploaded = curl_once(url, filled, b"x" * 5_000 if name == "upload" else b"", folder)
            answer = asked.answers[name]
            assert answer.status == status, f"{name}: {answer}"
            request = Request(id=name, method=method, url=url, body=max(size, 0), version=version)
            ((pid, address, port),) = expect.hops(answer.peer)
            assert pid is not None
            # Such a process may be gone before its environment could be read: its service is not judged.
            ends = [
                expect.client_span(asked, request, answer, local=(address, port)),
                expect.server_span(server, request, answer, pids=frozenset([pid]), client=address, client_port=port),
            ]
            if uploaded < size:
                # nginx answers before it reads a body, and with HTTP/1.0 curl may then not send it.
                assert (server_name, name) == ("nginx", "http10-post")
                ends = [truth.replace(end, incomplete=("closed", "")) for end in ends]
            # curl counts the frames of a chunked body too.
            sent = size if name == "upload" else uploaded
            expected += [truth.replace(end, request_size=sent) for end in ends]
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")


def curl_once(url: str, options: list[str], stdin: bytes, folder: Path) -> tuple[Asked, int]:
    """One curl for one request: what it saw, and how many bytes of a body it says it sent."""
    write_out = "%{http_code} %{size_download} %{size_upload} %header{x-peer}"
    command = [tool("curl", "curl"), "--disable", "-s", "-o", "/dev/null", "-w", write_out, *options, url]
    started_ns = time.time_ns()
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"OTEL_SERVICE_NAME": "curl-once"}
    )
    output, _ = process.communicate(stdin, timeout=60)
    status, size, uploaded, *peer = output.decode().split(" ")
    name = url.rpartition("/")[2]
    answer = Answer(
        id=name,
        status=int(status),
        body=int(size),
        start_ns=started_ns,
        end_ns=time.time_ns(),
        peer=" ".join(peer),
        error="",
    )
    asked = Asked(client="curl", pid=process.pid, service=None, requests=[], answers={name: answer})
    return asked, int(uploaded)
