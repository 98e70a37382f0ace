"""What is asked for is traced, and nothing else; the collector and its exporters never are."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from integration.harness import balance, expect, servers, truth
from integration.harness.cgroups import cgroup
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import base_url
from integration.harness.processes import descendants, free_port

COUNT = 31


class Workload:
    """Two servers of different programs, and a client that asks both."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self.nginx = servers.start("nginx", folder)
        self.caddy = servers.start("caddy", folder)
        self.expected: list[truth.Expected] = []

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self.nginx.running.stop()
        self.caddy.running.stop()

    def ask(self) -> None:
        """One client process a server."""
        for server in (self.nginx, self.caddy):
            plan = expect.file_plan(f"{self.run}{server.name}", base_url("v4", server.port), COUNT, agent="go")
            asked = ask("go", plan, self.folder, name=f"client-of-{server.name}")
            self.expected += expect.both_ends(asked, server)

    def of(self, server: servers.Server, *kinds: str) -> list[truth.Expected]:
        """What is expected of one server."""
        return [one for one in self.expected if one.server_port == server.port and one.kind in kinds]


def test_by_port(tier: str, folder: Path, run: str) -> None:
    """Connections with that port at either end; bytes of the others are not even looked at."""
    with Workload(folder, run) as workload, Collector(folder, tier=tier, ports=[workload.caddy.port]) as collector:
        workload.ask()
    truth.assert_equal(workload.of(workload.caddy, "SERVER", "CLIENT"), collector.spans())
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


def test_by_several_ports(tier: str, folder: Path, run: str) -> None:
    """Any of them is enough, given once or several times."""
    with Workload(folder, run) as workload:
        ports = f"{workload.nginx.port},{workload.caddy.port}"
        with Collector(folder, "--port", ports, "--port", "9", tier=tier) as collector:
            workload.ask()
    truth.assert_equal(workload.expected, collector.spans())


def test_by_pid(tier: str, folder: Path, run: str) -> None:
    """That process's side of its connections, and no other's."""
    with Workload(folder, run) as workload:
        pid = workload.caddy.running.pid
        with Collector(folder, "--pid", str(pid), tier=tier) as collector:
            workload.ask()
    truth.assert_equal(workload.of(workload.caddy, "SERVER"), collector.spans())
    balance.parse(collector.stderr()).assert_balanced()


def test_by_executable(tier: str, folder: Path, run: str) -> None:
    """Processes of that program only; of these, those of our port."""
    with Workload(folder, run) as workload:
        ports = [workload.nginx.port, workload.caddy.port]
        with Collector(folder, "--exe", "*/nginx", tier=tier, ports=ports) as collector:
            workload.ask()
    truth.assert_equal(workload.of(workload.nginx, "SERVER"), collector.spans())
    balance.parse(collector.stderr()).assert_balanced()


def test_by_cgroup(tier: str, folder: Path, run: str) -> None:
    """Processes of that cgroup and below."""
    with Workload(folder, run) as workload, cgroup(f"otelbpf-{run}") as group:
        below = group / "below"
        below.mkdir()
        for pid in descendants(workload.nginx.running.pid):
            (below / "cgroup.procs").write_text(str(pid))
        try:
            with Collector(folder, "--cgroup", group, tier=tier) as collector:
                workload.ask()
        finally:
            for pid in descendants(workload.nginx.running.pid):
                (group.parent / "cgroup.procs").write_text(str(pid))
            below.rmdir()
    truth.assert_equal(workload.of(workload.nginx, "SERVER"), collector.spans())
    balance.parse(collector.stderr()).assert_balanced()


class Backend:
    """An OTLP/HTTP receiver in this process, which answers `status` and keeps what came."""

    def __init__(self, status: int = 200) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Not a word."""

        self.port = free_port()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> int:
        """How many came."""
        groups = [group for request in self.received for group in request.resource_spans]
        return sum(len(scope.spans) for group in groups for scope in group.scope_spans)


def test_its_own_exports_are_not_traced(tier: str, folder: Path, run: str) -> None:
    """A backend on this host that speaks plain HTTP: neither end of the export's connection is told, though its port is
    asked for and its process is another."""
    with Workload(folder, run) as workload, Backend() as backend:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        }
        ports = [workload.nginx.port, workload.caddy.port, backend.port]
        with Collector(folder, "--export", "otlp", tier=tier, ports=ports, environment=environment) as collector:
            workload.ask()
    truth.assert_equal(workload.expected, collector.spans())
    assert backend.spans() == len(workload.expected)
    assert len(backend.received) > 1
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lists["left out by the probes, bytes"]["own"] > 0


def test_a_backend_that_refuses(tier: str, folder: Path, run: str) -> None:
    """400 is for good: the spans are counted as rejected, the collector goes on, the account balances."""
    with Workload(folder, run) as workload, Backend(status=400) as backend:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        ports = [workload.nginx.port, workload.caddy.port]
        with Collector(folder, "--export", "otlp", tier=tier, ports=ports, environment=environment) as collector:
            workload.ask()
    truth.assert_equal(workload.expected, collector.spans())
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.exporter("otlp")["lost: rejected"] == len(workload.expected) == backend.spans()


def test_a_backend_that_is_not_there(tier: str, folder: Path, run: str) -> None:
    """The collector runs on, says so once rather than for every batch, and counts every span as undelivered."""
    with Workload(folder, run) as workload:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTELBPF_EXPORT_SHUTDOWN_SECONDS": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        }
        ports = [workload.nginx.port, workload.caddy.port]
        with Collector(folder, "--export", "otlp", tier=tier, ports=ports, environment=environment) as collector:
            workload.ask()
    truth.assert_equal(workload.expected, collector.spans())
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.exporter("otlp")["lost: undelivered"] == len(workload.expected)
    complaints = [
        line for line in collector.stderr().splitlines() if "otlp" in line.lower() and "refused" in line.lower()
    ]
    assert 1 <= len(complaints) <= 3, collector.stderr()
