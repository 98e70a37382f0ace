"""Inside TLS, what is rare: requests within the handshake, handshakes between requests, bodies of many records, a
library that is loaded late. Spans are those of the requests, one to one.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import Request, base_url
from integration.harness.processes import Running, accepts, free_port, python, wait_for
from integration.harness.programs import c_program, tool
from integration.harness.secured import certificate, over_tls, start_in_turn, start_secured
from integration.harness.spans import SeenSpan

pytestmark = pytest.mark.usefixtures("alone")

HUGE = 50_000_000
TWO: list[str | Path] = [python(), "-m", "integration.programs.client_two_libraries"]
LATE: list[str | Path] = [python(), "-m", "integration.programs.server_late"]


def told(collector: Collector) -> list[SeenSpan]:
    """Every account balances, and no request was lost."""
    balance.parse(collector.stderr()).assert_nothing_lost()
    return collector.spans()


def summary(spans: list[SeenSpan]) -> list[tuple[object, ...]]:
    """What is to be right of requests that no client's log tells of."""
    names = ("url.scheme", "http.response.status_code", "http.response.body.size", "otelbpf.tls.evidence")
    return sorted((span.path, span.kind, *(span.attributes[name] for name in names)) for span in spans)


def get(path: str, *, close: bool = False) -> str:
    """A request as it is typed."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" + "Connection: close\r\n" * close + "\r\n"


def s_client(port: int, folder: Path, *more: str | Path) -> list[str]:
    """The command of OpenSSL's own client."""
    command = [tool("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}"]
    return [*command, "-CAfile", str(certificate(folder).file), *map(str, more)]


def test_a_request_within_the_handshake(tier: str, folder: Path, run: str) -> None:
    """TLS 1.3 with early data, which nginx takes; the next request follows when the handshake is over."""
    server = start_secured("nginx", folder, version="1.3", directives="ssl_early_data on;")
    early, ticket = folder / "early", folder / "ticket"
    early.write_text(get(f"/r/{run}/early"))
    before = s_client(server.port, folder, "-quiet", "-sess_out", ticket)
    within = s_client(server.port, folder, "-quiet", "-sess_in", ticket, "-early_data", early)
    subprocess.run(before, input=get("/before", close=True), text=True, check=True, capture_output=True)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        late = get(f"/r/{run}/late", close=True)
        answers = subprocess.run(within, input=late, text=True, check=True, capture_output=True).stdout
    assert answers.count("HTTP/1.1 200 OK") == 2
    spans = told(collector)
    assert summary(spans) == [
        (f"/r/{run}/{name}", kind, "https", 200, 3, "nested_call")
        for name in ("early", "late")
        for kind in ("CLIENT", "SERVER")
    ]
    assert {span.attributes["tls.resumed"] for span in spans} == {True}


def test_early_data_that_is_refused(tier: str, folder: Path, run: str) -> None:
    """By a server that knows the session but takes no early data: the answer is not that to the early request, which is
    lost by name."""
    early, ticket, key = folder / "early", folder / "ticket", folder / "key"
    key.write_bytes(secrets.token_bytes(80))
    keeps = f"ssl_session_ticket_key {key};"
    takes = start_secured("nginx", folder, version="1.3", directives=f"{keeps} ssl_early_data on;")
    before = s_client(takes.port, folder, "-quiet", "-sess_out", ticket)
    with takes:
        subprocess.run(before, input=get("/before", close=True), text=True, check=True, capture_output=True)
    (folder / "nginx").rename(folder / "before")
    server = start_secured("nginx", folder, version="1.3", directives=keeps)
    early.write_text(get(f"/r/{run}/early"))
    within = s_client(server.port, folder, "-quiet", "-sess_in", ticket, "-early_data", early)
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        late = get(f"/r/{run}/late", close=True)
        answers = subprocess.run(within, input=late, text=True, check=True, capture_output=True).stdout
    assert answers.count("HTTP/1.1 200 OK") == 1
    assert summary(collector.spans()) == [
        (f"/r/{run}/late", kind, "https", 200, 3, "nested_call") for kind in ("CLIENT", "SERVER")
    ]
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {"early_data_refused": 1}


GNUTLS = "/usr/lib/x86_64-linux-gnu/libgnutls.so.30"


def test_a_server_of_gnutls_that_takes_early_data(tier: str, folder: Path, run: str) -> None:
    """Read piece by piece; OpenSSL's client asks again when the handshake is over."""
    port, identity = free_port(), certificate(folder)
    early, ticket = folder / "early", folder / "ticket"
    early.write_text(get(f"/r/{run}/1"))
    command: list[str | Path] = [python(), "-m", "integration.programs.server_gnutls", str(port)]
    server = Running([*command, identity.file, identity.key, GNUTLS], folder=folder, name="server")
    before = s_client(port, folder, "-quiet", "-sess_out", ticket)
    within = s_client(port, folder, "-quiet", "-sess_in", ticket, "-early_data", early)

    def asked() -> bool:
        return subprocess.run(before, input=get("/0", close=True), text=True, check=False).returncode == 0

    wait_for("the server", asked, otherwise=server.output)
    with Collector(folder, tls=True, tier=tier, ports=[port]) as collector, server:
        late = get(f"/r/{run}/2", close=True)
        answers = subprocess.run(within, input=late, text=True, check=True, capture_output=True).stdout
    assert answers.count("HTTP/1.1 200 OK") == 2
    assert summary(told(collector)) == [
        (f"/r/{run}/{number}", kind, "https", 200, 10 * number, "nested_call")
        for number in (1, 2)
        for kind in ("CLIENT", "SERVER")
    ]


@pytest.mark.parametrize("takes", [True, False])
def test_early_data_of_gnutls(takes: bool, tier: str, folder: Path, run: str) -> None:
    """Its clients need not ask whether the server took it. Where it did, everything is told; where not, the answer to
    the next request is not taken for that to the early one, and the connection is left alone, by name."""
    early, key = folder / "early", folder / "key"
    early.write_text(get(f"/r/{run}/early"))
    key.write_bytes(secrets.token_bytes(80))
    keeps = f"ssl_session_ticket_key {key};"
    first = start_secured("nginx", folder, version="1.3", directives=f"{keeps} ssl_early_data on;")
    (folder / "nginx").rename(folder / "first")
    server = start_secured("nginx", folder, version="1.3", directives=f"{keeps} ssl_early_data on;" if takes else keeps)
    front, port = start_in_turn(folder, (first.port, server.port))
    words: list[str | Path] = [
        "--port",
        str(port),
        "--x509cafile",
        certificate(folder).file,
        "--earlydata",
        early,
        "127.0.0.1",
    ]
    command = [tool("gnutls-cli", "gnutls-bin"), "--resume", "--waitresumption", *words]
    with Collector(folder, tls=True, tier=tier, ports=[port, server.port]) as collector, first, server, front:
        client = Running(command, folder=folder, name="gnutls", stdin=subprocess.PIPE)
        _type(client, "", until="This is a resumed session", times=1)
        if takes:  # what is asked before the answer has come tells nothing of who waits for whom
            _type(client, "", until="200 OK", times=1)
        for number in (1, 2, 3):
            _type(client, get(f"/r/{run}/{number}"), until="200 OK", times=number + takes)
        client.process.communicate(timeout=20)
    told = ["early", "1", "2", "3"] if takes else ["1", "2", "3"]
    ends = [(name, kind) for name in told for kind in (("CLIENT", "SERVER") if takes else ("SERVER",))]
    wanted = [(f"/r/{run}/{name}", kind, "https", 200, 3, "nested_call") for name, kind in ends]
    assert summary(collector.spans()) == sorted(wanted)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == ({} if takes else {"joined_midway": 2})


def test_a_server_that_asks_for_a_certificate_later(tier: str, folder: Path, run: str) -> None:
    """Apache, TLS 1.2: for some paths only, between their request and its answer, by another handshake."""
    identity = certificate(folder)
    wants = f"SSLCACertificateFile {identity.file}\n<LocationMatch ^/f/>\nSSLVerifyClient require\n</LocationMatch>"
    server = start_secured("apache", folder, version="1.2", directives=wants)
    shown = {**identity.trust, "CLIENT_CERTIFICATE": str(identity.file), "CLIENT_KEY": str(identity.key)}
    plan = expect.file_plan(run, base_url("v4", server.port, scheme="https"), 30, agent="client")
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("sessions", plan, folder, concurrency=1, environment=shown)
        expected = over_tls(expect.both_ends(asked, server, listed=False))
    assert {answer.status for answer in asked.answers.values()} == {200, 404}
    truth.assert_equal(expected, told(collector))


def test_a_client_that_renegotiates(tier: str, folder: Path, run: str) -> None:
    """TLS 1.2, before the first request and between two others."""
    identity, port, plain = certificate(folder), free_port(), free_port()
    program = [*LATE, str(plain), str(port), identity.file, identity.key]
    server = Running(program, folder=folder, name="late")
    wait_for("the server", lambda: _asks(plain, "/secure"))
    with Collector(folder, tls=True, tier=tier, ports=[port]) as collector, server:
        command = s_client(port, folder, "-tls1_2")
        client = Running(command, folder=folder, name="client", stdin=subprocess.PIPE)
        _type(client, "", until="verify return:1", times=1)
        _type(client, "R\n", until="verify return:1", times=2)
        _type(client, get(f"/r/{run}/1"), until="200 OK", times=1)
        _type(client, get(f"/r/{run}/2"), until="200 OK", times=2)
        _type(client, "R\n", until="verify return:1", times=3)
        _type(client, get(f"/r/{run}/3"), until="200 OK", times=3)
        client.stop()
    assert summary(told(collector)) == [
        (f"/r/{run}/{turn}", kind, "https", 200, 10 * turn, "nested_call")
        for turn in range(1, 4)
        for kind in ("CLIENT", "SERVER")
    ]


def test_bodies_of_many_records(tier: str, folder: Path, run: str) -> None:
    """50 MB up and as many down at the same request, through nginx. Of chunks so far behind the head it is said that
    their size is not known, and yet the next request is found."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(servers.start("gunicorn-gthread", folder))
        more = "client_max_body_size 64m;"
        server = start_secured("nginx", folder, upstream=upstream.port, directives=more)
        base = base_url("v4", server.port, scheme="https")
        (folder / "nginx" / "files" / "huge").write_bytes(b"f" * HUGE)
        plan = [
            Request(id="1", method="POST", url=f"{base}/p/{run}/1?size={HUGE}", body=HUGE),
            Request(id="2", url=f"{base}/f/{run}/2/huge"),
            Request(id="3", method="POST", url=f"{base}/p/{run}/3?size={HUGE}&chunked=1", body=HUGE),
            Request(id="4", url=f"{base}/r/{run}/4"),
        ]
        collector = stack.enter_context(Collector(folder, tls=True, tier=tier, ports=[server.port]))
        with server:
            asked = ask("curl", plan, folder, environment=certificate(folder).trust)
            both = over_tls(expect.both_ends(asked, server))
            expected = [truth.replace(one, framing_beyond=one.query.endswith("chunked=1")) for one in both]
    assert [asked.answers[request.id].body for request in plan] == [HUGE, HUGE, HUGE, 3]
    truth.assert_equal(expected, told(collector))


def test_a_library_that_is_loaded_late(tier: str, folder: Path, run: str) -> None:
    """By a process that was known already, for it served plain text; nobody else has that library."""
    own = folder / "own"
    own.mkdir()
    (own / "libssl.so.3").write_bytes(Path("/usr/lib/x86_64-linux-gnu/libssl.so.3").read_bytes())
    identity, port, plain = certificate(folder), free_port(), free_port()
    program = [*LATE, str(plain), str(port), identity.file, identity.key]
    with (
        Collector(folder, tls=True, tier=tier, ports=[plain, port]) as collector,
        Running(program, folder=folder, name="late", environment={"LD_LIBRARY_PATH": str(own)}) as server,
    ):
        wait_for("the server", lambda: _asks(plain, f"/r/{run}/0"))
        assert "libssl" not in Path(f"/proc/{server.pid}/maps").read_text()
        assert _asks(plain, "/secure")
        collector.wait_attached(own / "libssl.so.3", server.pid)
        client = [tool("curl", "curl"), "--silent", "--cacert", str(identity.file), "--output", "/dev/null"]
        urls = [f"https://127.0.0.1:{port}/r/{run}/{number}" for number in range(1, 8)]
        subprocess.run([*client, *urls], check=True)
    secured = [span for span in told(collector) if span.attributes["url.scheme"] == "https"]
    assert summary(secured) == [
        (f"/r/{run}/{number}", kind, "https", 200, 10 * number, "nested_call")
        for number in range(1, 8)
        for kind in ("CLIENT", "SERVER")
    ]


def test_a_second_library_in_a_process(tier: str, folder: Path, run: str) -> None:
    """A client that speaks TLS already loads another library, from a file that nobody else has mapped."""
    own = folder / "libssl.so.3"
    own.write_bytes(Path("/usr/lib/x86_64-linux-gnu/libssl.so.3").read_bytes())
    server = start_secured("nginx", folder)
    asks = [*TWO, str(server.port), certificate(folder).file, own, f"/r/{run}"]
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        client = Running(asks, folder=folder, name="two", stdin=subprocess.PIPE)
        with client:
            wait_for("the second library", lambda: "loaded" in client.output(), otherwise=client.output)
            collector.wait_attached(own, client.pid)
            client.process.communicate(b"go on\n", timeout=30)
        assert client.process.returncode == 0, client.output()
    assert summary(told(collector)) == [
        (f"/r/{run}/{library}/{number}", kind, "https", 200, 3, "nested_call")
        for library in ("first", "second")
        for number in range(5)
        for kind in ("CLIENT", "SERVER")
    ]


def test_calls_that_are_left_by_a_jump(tier: str, folder: Path, run: str) -> None:
    """A client that leaves SSL_read() from a callback, and calls it again elsewhere: what it left counts nothing."""
    server = start_secured("nginx", folder)
    program = c_program("jumping.c", "libssl.so.3", "libcrypto.so.3")
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        subprocess.run([program, str(server.port), run, "7"], check=True)
    assert summary(told(collector)) == [
        (f"/r/{run}/{number}", kind, "https", 200, 3, "nested_call")
        for number in range(7)
        for kind in ("CLIENT", "SERVER")
    ]


def test_a_session_that_is_used_again(tier: str, folder: Path, run: str) -> None:
    """SSL_clear() and another socket: each connection has its own requests, whether that before was ended or left."""
    server = start_secured("nginx", folder)
    program = c_program("clearing.c", "libssl.so.3", "libcrypto.so.3")
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        subprocess.run([program, str(server.port), run, "5"], check=True)
    spans = told(collector)
    assert summary(spans) == [
        (f"/r/{run}/{connection}/{number}", kind, "https", 200, 3, "nested_call")
        for connection in range(5)
        for number in range(2)
        for kind in ("CLIENT", "SERVER")
    ]
    ends = {(span.kind, span.path.split("/")[3]): span.attributes["network.peer.port"] for span in spans}
    assert len({port for (kind, _), port in ends.items() if kind == "SERVER"}) == 5
    clients = {span.span_id: span.path for span in spans if span.kind == "CLIENT"}
    assert {span.path: clients[span.parent_id] for span in spans if span.kind == "SERVER"} == {
        path: path for path in clients.values()
    }


def test_threads_that_hand_work_to_each_other(tier: str, folder: Path, run: str) -> None:
    """One receives, another decrypts, another sends, and all messages have one length: no span tells a wrong peer, and
    those of which it is not known say so."""
    identity, port = certificate(folder), free_port()
    pooled: list[str | Path] = [python(), "-m", "integration.programs.server_pooled", str(port)]
    serving = [*pooled, identity.file, identity.key, "3"]
    count, connections = 40, 8
    context = ssl.create_default_context(cafile=identity.file)

    def ask(number: int) -> int:
        """Its own port is part of every path."""
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            own = int(plain.getsockname()[1])
            with context.wrap_socket(plain, server_hostname="localhost") as end:
                for turn in range(count):
                    end.sendall(b"GET /r/%s/%05d/%02d HTTP/1.1\r\nHost: h\r\n\r\n" % (run.encode(), own, turn))
                    left = 139
                    while left:
                        left -= len(end.recv(left))
        return own

    with (
        Collector(folder, tls=True, tier=tier, ports=[]) as collector,
        Running(serving, folder=folder, name="pooled") as server,
    ):
        wait_for("the server", lambda: accepts(port))
        with ThreadPoolExecutor(connections) as pool:
            ports = sorted(pool.map(ask, range(connections)))
        server.stop()
    spans = [span for span in collector.spans() if span.kind == "SERVER" and f"/{run}/" in span.path]
    assert sorted(span.path for span in spans) == [
        f"/r/{run}/{own:05d}/{turn:02d}" for own in ports for turn in range(count)
    ]
    for span in spans:
        told = span.attributes.get("network.peer.port")
        assert told == (None if span.attributes["otelbpf.tls.evidence"] == "none" else int(span.path.split("/")[3]))


def test_threads_that_come_and_go(tier: str, folder: Path, run: str) -> None:
    """One of them waits for its answer in a call of the library while more end than calls can be noted."""
    server = start_secured("go", folder)
    gate = folder / "gate"
    program = c_program("mortal.c", "libssl.so.3", "libcrypto.so.3")
    path = f"/r/{run}/1?size=70&gate={gate}"
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        subprocess.run([program, str(server.port), path, "40000", gate], check=True)
    assert summary(told(collector)) == [(f"/r/{run}/1", "CLIENT", "https", 200, 70, "nested_call")]


def _type(client: Running, text: str, *, until: str, times: int) -> None:
    """What somebody types at a client, and waits for."""
    assert client.process.stdin is not None
    client.process.stdin.write(text.encode())
    client.process.stdin.flush()
    wait_for(until, lambda: client.output().count(until) == times, otherwise=client.output)


def _asks(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
