"""Starting, ending, dying: of the collector, and of what it traces."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from integration.harness import balance, servers, truth
from integration.harness.clients import Asking, ask
from integration.harness.collector import Collector
from integration.harness.expect import both_ends, client_span, server_span
from integration.harness.plan import Answer, Request, app_plan, base_url
from integration.harness.processes import Running, free_port, python, wait_for, wait_until_serving
from integration.harness.programs import SOURCES, tool
from integration.harness.truth import replace


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_orderly_end(how: signal.Signals, tier: str, folder: Path, run: str) -> None:
    """Either signal drains, exports what is whole, prints the balance sheet and ends with 0; nothing stays attached."""
    before = left_in_the_kernel()
    server = servers.start("go", folder)
    with server, Collector(folder, tier=tier, ports=[server.port]) as collector:
        asked = ask("go", app_plan(run, base_url("v4", server.port), 23, agent="go"), folder)
        collector.finish(how)
    truth.assert_equal(both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_balanced()
    assert left_in_the_kernel() == before


def left_in_the_kernel() -> list[str]:
    """What outlives a process that does not clean up: pinned BPF objects and named probes."""
    pinned = [str(path) for path in Path("/sys/fs/bpf").rglob("*")]
    for name in ("kprobe_events", "uprobe_events"):
        with contextlib.suppress(OSError):
            pinned += Path("/sys/kernel/tracing", name).read_text().splitlines()
    return sorted(pinned)


def test_a_duration(tier: str, folder: Path, run: str) -> None:
    """--duration ends by itself, as a signal would."""
    server = servers.start("go", folder)
    with server:
        collector = Collector(folder, "--duration", "6s", tier=tier, ports=[server.port]).ready()
        asked = ask("go", app_plan(run, base_url("v4", server.port), 23, agent="go"), folder)
        assert collector.running.wait(within_seconds=20) == 0
    truth.assert_equal(both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")


def test_ready_and_health(tier: str, folder: Path, run: str) -> None:
    """The ready line tells the tier; /healthz, /readyz and /metrics answer, and the metrics are the balance sheet's."""
    server, port = servers.start("go", folder), free_port()
    with Collector(folder, tier=tier, ports=[server.port], listen=f"127.0.0.1:{port}") as collector:
        assert tier in collector.ready_line
        assert [get(port, path)[0] for path in ("/healthz", "/readyz", "/metrics", "/other")] == [200, 200, 200, 404]
        with server:
            ask("go", app_plan(run, base_url("v4", server.port), 57, agent="go"), folder)
        # Both spans of 57 requests; the metrics follow as soon as the collector has looked at the ring.
        wait_for("114 spans in /metrics", lambda: metrics(port).get("otelbpf_spans_total") == 114)
        exported = (
            f'otelbpf_exporter_spans_total{{exporter="file:{collector.spans_path}",outcome="exported",reason=""}}'
        )
        wait_for("the file to have them", lambda: metrics(port).get(exported) == 114)
        seen = metrics(port)
    sheet = balance.parse(collector.stderr())
    assert seen["otelbpf_requests_total"] == sheet.requests["begun"] == 114
    assert seen["otelbpf_requests_open"] == 0
    assert seen["otelbpf_bytes_difference"] == 0
    assert seen['otelbpf_bytes_total{outcome="seen",reason=""}'] == sheet.bytes["seen"]
    assert seen["otelbpf_kernel_bytes_total"] == sheet.bytes["sent and received, says the kernel"]


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def metrics(port: int) -> dict[str, float]:
    """Every sample of /metrics."""
    lines = get(port, "/metrics")[1].splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_a_client_killed_midway(tier: str, folder: Path, run: str) -> None:
    """The client dies while it waits: its span ends with the connection and says so; the server's is whole."""
    server = servers.start("go", folder)
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        plan = [Request(id="dead", url=f"{base_url('v4', server.port)}/r/{run}/dead?delay=2000&size=10")]
        client = Asking("go", plan, folder)
        wait_for("the request to be under way", lambda: "delaying" in server.running.output())
        client.running.stop(signal.SIGKILL)
        wait_for("the server to close its end", lambda: not connections(server.port))
    died = Answer(id="dead", status=0, body=0, start_ns=client.started_ns, end_ns=0, peer="", error="")
    done = replace(
        server_span(server, plan[0], died, pids=frozenset([server.running.pid]), client="127.0.0.1", client_port=None),
        status=200,
        response_size=10,
    )
    asked = client.so_far()
    lost = replace(client_span(asked, plan[0], died), error_type="connection_closed", response_size=None)
    truth.assert_equal([done, lost], collector.spans(), exact_sends=False, within=False)
    balance.parse(collector.stderr()).assert_balanced()


def test_a_server_killed_midway(tier: str, folder: Path, run: str) -> None:
    """The server dies before it answers: both spans end with the connection and say so; what came before is whole."""
    server = servers.start("go", folder)
    with Collector(folder, tier=tier, ports=[server.port]) as collector:
        whole = ask("go", app_plan(run, base_url("v4", server.port), 19, agent="go"), folder)
        plan = [Request(id=f"{n}", url=f"{base_url('v4', server.port)}/r/{run}/dead-{n}?delay=30000") for n in range(4)]
        client = Asking("go", plan, folder, name="client-bereft")
        wait_for("four requests under way", lambda: server.running.output().count("30000 ms") == 4)
        server.running.stop(signal.SIGKILL)
        wait_for("the client to notice", client.log.exists)
    expected = both_ends(whole, server)
    for request in plan:
        died = Answer(id=request.id, status=0, body=0, start_ns=client.started_ns, end_ns=0, peer="", error="")
        ends = [
            client_span(client.so_far(), request, died),
            server_span(server, request, died, pids=server.pids(), client="127.0.0.1", client_port=None),
        ]
        expected += [replace(end, error_type="connection_closed", response_size=None) for end in ends]
    truth.assert_equal(expected, collector.spans(), exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_balanced()


def connections(port: int) -> int:
    """Ends of connections to this port that a process still has: ESTABLISHED or CLOSE_WAIT."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(state in ("01", "08") and f"{port:04X}" in (a[-4:], b[-4:]) for _, a, b, state, *_ in fields)


def test_processes_too_short_to_look_at(tier: str, folder: Path, run: str) -> None:
    """A hundred clients that live some milliseconds each: every one is told, with its own pid."""
    server = servers.start("nginx", folder)
    pids = []
    with Collector(folder, tier=tier, ports=[server.port]) as collector, server:
        for n in range(100):
            url = f"{base_url('v4', server.port)}/r/{run}/{n}"
            with Running([tool("curl", "curl"), "-s", "-q", url], folder=folder, name="curl") as curl:
                assert curl.wait() == 0
                pids.append(curl.pid)
    spans = collector.spans()
    clients = {span.path.rpartition("/")[2]: span for span in spans if span.kind == "CLIENT"}
    assert (len(clients), len(spans)) == (100, 200)
    assert [clients[f"{n}"].pid for n in range(100)] == pids
    assert {span.resource["service.name"] for span in clients.values()} == {"curl"}


def test_half_open_connections(tier: str, folder: Path, run: str) -> None:
    """Thousands of connections that sent half a head: bounded memory, no noise, and what follows is exact."""
    count, whole = 8000, 300
    server, port = servers.start("nginx", folder), free_port()
    with server, Collector(folder, tier=tier, ports=[server.port], listen=f"127.0.0.1:{port}") as collector:
        before = metrics(port)["otelbpf_process_anonymous_memory_bytes"]
        with HalfOpen(server.port, count) as connections:
            wait_for(
                "all of them to be seen",
                lambda: metrics(port).get('otelbpf_connections_total{outcome="opened"}', 0) >= 2 * count,
                within_seconds=60,
            )
            after = metrics(port)["otelbpf_process_anonymous_memory_bytes"]
            connections.complete(f"/r/{run}", whole)
        server.running.stop()
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    spans = collector.spans()
    assert sorted(span.path for span in spans if span.kind == "SERVER") == sorted(f"/r/{run}/{n}" for n in range(whole))
    assert len(spans) == 2 * whole
    assert sheet.requests["begun"] == 2 * whole
    assert (after - before) / (2 * count) < 8192, "a connection's place in the table must stay small"
    assert not re.search("Traceback|internal error", collector.stderr())


class HalfOpen:
    """Connections of this process on which half a head was sent."""

    def __init__(self, port: int, count: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < count + 500:
            pytest.skip(f"needs {count + 500} file descriptors, the limit is {hard}")
        self._open = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.sendall(b"GET ")
            self._open.append(connection)

    def __enter__(self) -> HalfOpen:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()

    def complete(self, prefix: str, count: int) -> None:
        """Send the rest of a request on some of them and read the answers."""
        for n, connection in enumerate(self._open[:count]):
            connection.sendall(f"{prefix}/{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for connection in self._open[:count]:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_processes_that_end_at_once_keep_their_name(tier: str, folder: Path, run: str) -> None:
    """A child for each connection, gone before anybody can look: its program is that of the one it was forked from."""
    port = free_port()
    script = SOURCES / "forking.py"
    server = Running([python(), script, str(port)], folder=folder, name="forking")
    wait_until_serving(server, port, ("127.0.0.1",))
    count = 47
    with Collector(folder, tier=tier, ports=[port]) as collector, server:
        for number in range(count):
            assert get(port, f"/r/{run}/{number}") == (200, "ok\n")
    served = [span for span in collector.spans() if span.kind == "SERVER"]
    assert sorted(span.path for span in served) == sorted(f"/r/{run}/{number}" for number in range(count))
    assert {span.resource["service.name"] for span in served} == {"forking"}
    assert {span.resource["process.executable.path"] for span in served} == {str(Path(python()).resolve())}
    assert {span.resource["process.parent_pid"] for span in served} == {server.pid}
    assert len({span.pid for span in served}) == count
    balance.parse(collector.stderr()).assert_balanced()


def test_who_listens_is_known_before_its_first_request(tier: str, folder: Path, run: str) -> None:
    """A server that begins after the collector and waits: its queue and its first request are its own."""
    port, listen = free_port(), free_port()
    with Collector(folder, tier=tier, ports=[port], listen=f"127.0.0.1:{listen}") as collector:
        argv = [python(), "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        server = Running(argv, folder=folder, name="waiting", environment={"OTEL_SERVICE_NAME": "waiting"})
        limit = f'otelbpf_accept_queue_limit{{job="waiting",server_port="{port}"}}'
        wait_for("the queue to be told", lambda: limit in metrics(listen), otherwise=lambda: str(metrics(listen)))
        assert not [line for line in metrics(listen) if 'job="unknown_service"' in line]
        with server:
            assert get(port, f"/r/{run}")[0] == 404
    (served,) = [span for span in collector.spans() if span.kind == "SERVER"]
    assert (served.path, served.resource["service.name"]) == (f"/r/{run}", "waiting")
