"""HTTP/2 in plain text between real programs: every stream becomes its two spans, exactly."""

from __future__ import annotations

import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Self

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from msgspec.structs import replace

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import CURLS, Asked, ask
from integration.harness.collector import Collector
from integration.harness.plan import Request, app_plan, base_url
from integration.harness.programs import tool

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 38
PAIRS = [
    ("nginx-http2", "curl-http2"),
    ("nginx-http2", "node-http2"),
    ("hypercorn", "httpx-http2"),
    ("hypercorn", "curl-upgrading"),
    ("node-http2", "node-http2"),
    ("node-http2", "curl-http2"),
]


def plan_for(server: servers.Server, client: str, run: str, *, count: int = COUNT) -> list[Request]:
    """Every shape of request, as streams of HTTP/2."""
    base = base_url("v4", server.port)
    if server.reads_query:
        requests = app_plan(run, base, count, agent=client, without=("chunked",))
    else:
        requests = expect.file_plan(run, base, count, agent=client)
    if client in CURLS:
        # Nor can it take an upgrade when there is much behind it.
        requests = [request for request in requests[:19] if "size=300000" not in request.url][::2]
    # curl offers an upgrade only where it has nothing to send.
    return [replace(r, version="1.1" if r.body and client == "curl-upgrading" else "2") for r in requests]


def carry_out(client: str, plan: list[Request], folder: Path) -> list[Asked]:
    """The whole plan. curl gets a process for each request: that of Debian 12 cannot use such a connection twice."""
    if client in CURLS:
        return [ask(client, [request], folder, name=f"{client}-{request.id}") for request in plan]
    return [ask(client, plan, folder, concurrency=8)]


@pytest.mark.parametrize(("name", "client"), PAIRS)
def test_every_stream_of_a_client(name: str, client: str, tier: str, folder: Path, run: str) -> None:
    """By prior knowledge and by upgrade, eight at a time where the client can, on both sides."""
    server = servers.start(name, folder)
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        asked = carry_out(client, plan_for(server, client, run), folder)
    expected = [span for each in asked for span in expect.both_ends(each, server)]
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_a_hundred_streams_at_once(tier: str, folder: Path, run: str) -> None:
    """h2load with unique paths: each is a CLIENT span and its SERVER child, with status and size."""
    count = 1500
    server = servers.start("nginx-http2", folder)
    urls = folder / "urls"
    urls.write_text("".join(f"http://127.0.0.1:{server.port}/r/{run}/{number:05d}\n" for number in range(count)))
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        command = [tool("h2load", "nghttp2-client"), "-n", str(2 * count), "-c", "2", "-m", "100", "-i", str(urls)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"{2 * count} succeeded, 0 failed" in result.stdout
    spans = collector.spans()
    told = Counter(
        (s.kind, s.path, s.attributes["http.response.status_code"], s.attributes["http.response.body.size"])
        for s in spans
    )
    each = len(servers.TEXT)
    wanted = {(kind, f"/r/{run}/{n:05d}", 200, each): 2 for kind in ("CLIENT", "SERVER") for n in range(count)}
    assert told == wanted
    callers = {span.span_id: span for span in spans if span.kind == "CLIENT"}
    for span in spans:
        if span.kind == "SERVER":
            caller = callers.pop(span.parent_id)
            assert (caller.trace_id, caller.path) == (span.trace_id, span.path)
    balance.parse(collector.stderr()).assert_balanced()


class Talk2:
    """A client of HTTP/2 with one connection, of which this process is in command."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._h2.initiate_connection()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, path: str) -> None:
        """A GET, to the end of its answer."""
        number = self._h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "talk"), (":path", path)]
        self._h2.send_headers(number, fields, end_stream=True)
        events: list[object] = []
        while not any(isinstance(event, StreamEnded) and event.stream_id == number for event in events):
            self._socket.sendall(self._h2.data_to_send())
            data = self._socket.recv(65536)
            assert data
            events += self._h2.receive_data(data)


def test_connections_open_before(tier: str, folder: Path, run: str) -> None:
    """Of streams on a connection that was open, all that begin later are told; what is not known of them is named."""
    server = servers.start("node-http2", folder)
    with Talk2(server.port) as client:
        for number in range(5):
            client.ask(f"/r/{run}/before{number}?size=100")
        with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
            for number in range(20):
                client.ask(f"/r/{run}/{number}?size={100 * number}")
    spans = collector.spans()
    told = Counter((s.kind, s.path, s.attributes.get("http.response.body.size")) for s in spans)
    assert told == {
        (kind, f"/r/{run}/{number}", 100 * number): 1 for kind in ("CLIENT", "SERVER") for number in range(20)
    }
    # The size of each is new, its status not: 200 stands in the static table.
    assert {span.attributes["http.response.status_code"] for span in spans} == {200}
    balance.parse(collector.stderr()).assert_nothing_lost()
