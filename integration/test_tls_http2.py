"""HTTP/2 inside TLS between real programs: every stream becomes its two spans, exactly, however its bytes are cut."""

from __future__ import annotations

import ssl
from collections import Counter
from pathlib import Path

import pytest
from h2.events import DataReceived, StreamEnded
from msgspec.structs import replace

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import Request, app_plan, base_url
from integration.harness.secured import certificate, over_tls, start_secured
from integration.test_http2 import Talk2

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 38
BIG, HUGE = 1_500_000, 12_000_000
PAIRS = [
    ("nginx", "httpx-http2"),
    ("nginx", "node-http2"),
    ("hypercorn", "node-http2"),
    ("node-http2", "httpx-http2"),
    ("node-http2", "node-http2"),
]


def plan_for(server: servers.Server, client: str, run: str) -> list[Request]:
    base = base_url("v4", server.port, scheme="https")
    if server.reads_query:
        requests = app_plan(run, base, COUNT, agent=client, without=("chunked",))
        sizes = [HUGE] if client == "httpx-http2" else [BIG, BIG + 1]  # node's sessions may hold 10 MB
        big = [Request(id=f"big{n}", url=f"{base}/r/{run}/big{n}?size={n}") for n in sizes]
        up = [Request(id=f"up{n}", method="POST", url=f"{base}/r/{run}/up{n}?size=7", body=n) for n in sizes]
        requests += [one for pair in zip(big, up, strict=True) for one in pair]
    else:
        requests = expect.file_plan(run, base, COUNT, agent=client)
    return [replace(request, version="2") for request in requests]


@pytest.mark.parametrize(("name", "client"), PAIRS)
def test_every_stream_of_a_client(name: str, client: str, tier: str, folder: Path, run: str) -> None:
    """Eight at a time; bodies of megabytes go in one call of the library where the program does it so."""
    server = start_secured(name, folder, http2=True)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask(client, plan_for(server, client, run), folder, environment=certificate(folder).trust)
    expected = over_tls(expect.both_ends(asked, server))
    truth.assert_equal(expected, collector.spans())
    balance.parse(collector.stderr()).assert_nothing_lost()


class SecuredTalk2(Talk2):
    """The same over TLS, by a library that has the socket."""

    def __init__(self, port: int, authority: Path) -> None:
        super().__init__(port)
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2"])
        self._socket = context.wrap_socket(self._socket, server_hostname="localhost")

    def post(self, path: str, size: int, *, cut: int) -> None:
        """A POST, to the end of its answer, in calls of the library of so many bytes each."""
        number = self._h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", "talk"), (":path", path)]
        self._h2.send_headers(number, fields)
        for turn, begin in enumerate(range(0, size, 16_000)):
            self._h2.send_data(number, b"x" * min(16_000, size - begin), pad_length=7 if turn % 2 else None)
        self._h2.end_stream(number)
        events: list[object] = []
        while not any(isinstance(event, StreamEnded) and event.stream_id == number for event in events):
            out = self._h2.data_to_send()
            for begin in range(0, len(out), cut):
                self._socket.sendall(out[begin : begin + cut])
            data = self._socket.recv(cut)
            assert data
            events += self._h2.receive_data(data)
            for event in events:
                if isinstance(event, DataReceived) and event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, number)
            events = [event for event in events if isinstance(event, StreamEnded)]


@pytest.mark.parametrize("name", ["nginx", "node-http2"])
def test_connections_open_before(name: str, tier: str, folder: Path, run: str) -> None:
    """Of streams on a connection that was open, all that begin later are told; what is not known of them is named."""
    server = start_secured(name, folder, http2=True)
    more = "" if name == "nginx" else "?size=2000"
    size = len(servers.TEXT) if name == "nginx" else 2000
    with SecuredTalk2(server.port, certificate(folder).file) as client:
        for number in range(5):
            client.ask(f"/r/{run}/before{number}{more}")
        with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
            for number in range(20):
                client.ask(f"/r/{run}/{number}{more}")
    spans = collector.spans()
    told = Counter((s.kind, s.path, s.attributes.get("http.response.body.size")) for s in spans)
    assert told == {(kind, f"/r/{run}/{number}", size): 1 for kind in ("CLIENT", "SERVER") for number in range(20)}
    assert {span.attributes["http.response.status_code"] for span in spans} == {200}
    balance.parse(collector.stderr()).assert_nothing_lost()


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 10, 511, 16_383, 16_393, 50_000])
def test_frames_that_calls_cut(cut: int, tier: str, folder: Path, run: str) -> None:
    """Wherever a call ends, within a frame's header too: what is skipped is as much as it was."""
    server = start_secured("node-http2", folder, http2=True)
    sizes = [0, 1, 500, 513, 20_000] if cut < 20 else [0, 1, 500, 513, 20_000, 16_384, 33_000]
    with (
        Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector,
        server,
        SecuredTalk2(server.port, certificate(folder).file) as client,
    ):
        for number, size in enumerate(sizes):
            client.post(f"/r/{run}/{number}?size={size + 2}", size, cut=cut)
    spans = collector.spans()
    told = Counter(
        (s.kind, s.path, s.attributes.get("http.request.body.size"), s.attributes.get("http.response.body.size"))
        for s in spans
    )
    assert told == {
        (kind, f"/r/{run}/{number}", size, size + 2): 1
        for kind in ("CLIENT", "SERVER")
        for number, size in enumerate(sizes)
    }
    balance.parse(collector.stderr()).assert_nothing_lost()
