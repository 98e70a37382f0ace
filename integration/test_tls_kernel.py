"""Inside TLS, where the library has the kernel encrypt and decrypt (kTLS), and send files that nobody reads
(SSL_sendfile): with OpenSSL of Debian 13, where the kernel has CONFIG_TLS.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from integration.harness import balance, expect, pair, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.keep_alive import KeepAlive
from integration.harness.plan import base_url
from integration.harness.processes import Running, accepts, free_port, wait_for
from integration.harness.secured import certificate, over_tls, start_secured
from integration.harness.systems import debian_13, inside
from integration.kernel.workload import kernel_tls

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 61
KTLS = "ssl_conf_command Options KTLS;"
_STATISTICS = Path("/proc/net/tls_stat")


@pytest.fixture
def there() -> list[str | Path]:
    """The words before a command of Debian 13."""
    if kernel_tls() is None:
        pytest.skip("needs a kernel with CONFIG_TLS")
    return inside(debian_13())


def entrusted() -> dict[str, int]:
    """How many connections the kernel encrypts now, and how many it decrypts."""
    lines = [line.split() for line in _STATISTICS.read_text().splitlines()]
    return {name: int(value) for name, value in lines if name in ("TlsTxSw", "TlsRxSw")}


def more(before: dict[str, int]) -> dict[str, int]:
    """Since then."""
    return {name: value - before[name] for name, value in entrusted().items()}


@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_files_that_nobody_reads(
    version: str, http: str, there: list[str | Path], tier: str, folder: Path, run: str
) -> None:
    """Bodies are whole in the count although no byte of them came by; the socket is proved by the handshake."""
    server = start_secured("nginx", folder, version=version, http2=http == "2", directives=KTLS, before=there)
    plan = expect.file_plan(run, base_url("v4", server.port, scheme="https"), COUNT, agent="curl")
    plan = [replace(request, version=http) for request in plan]
    before = entrusted()
    with Collector(folder, tls=True, tier=tier, ports=[server.port]) as collector, server:
        asked = ask("curl", plan, folder, environment=certificate(folder).trust, before=there)
        expected = over_tls(expect.both_ends(asked, server))
    assert more(before) == {"TlsTxSw": 1, "TlsRxSw": 1}
    spans = collector.spans()
    truth.assert_equal(expected, spans)
    assert {(span.attributes["otelbpf.tls.evidence"], span.attributes["tls.protocol.version"]) for span in spans} == {
        ("nested_call", version)
    }
    sheet = balance.parse(collector.stderr())
    sheet.assert_nothing_lost()
    # Every byte of every file, and nothing else.
    files = [request for request in plan if "/f/" in request.url and request.method == "GET"]
    answers = [asked.answers[request.id] for request in files]
    # Tracepoints see the calls: once the plain text is found, the socket is muted.
    least = sheet.plain["not seen: sendfile"] if tier == "kprobe" else 0
    assert sheet.bytes["not seen: kernel_tls"] > least
    assert not {"not seen: hole", "not seen: syscall"} & sheet.bytes.keys()
    assert sheet.plain["not seen: sendfile"] == sum(answer.body for answer in answers if answer.status == 200)


def test_both_ends(there: list[str | Path], tier: str, folder: Path, run: str) -> None:
    """Python's server and client, whose every call on the socket is one of the kernel's TLS."""
    ports, identity, config = [free_port(), free_port()], certificate(folder), folder / "ktls.cnf"
    config.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = system\n[system]\nOptions = KTLS\n"
    )
    program = folder / "pair.py"
    program.write_bytes(pair.PROGRAM.read_bytes())
    command = [*there, "python3", program]
    words = list(map(str, ports))
    environment = {"OPENSSL_CONF": str(config), "OTEL_SERVICE_NAME": "pair"}
    before = entrusted()
    with Collector(folder, tls=True, tier=tier, ports=ports) as collector:
        serve = [*command, "serve", *words, identity.file, identity.key]
        with Running(serve, folder=folder, name="server", environment=environment) as server:
            wait_for("the server", lambda: all(map(accepts, ports)), otherwise=server.output)
            asking = [*command, "ask", *words, identity.file, run, str(pair.COUNT)]
            with Running(asking, folder=folder, name="client", environment=environment) as client:
                assert client.wait() == 0, client.output()
    assert more(before) == {"TlsTxSw": 2, "TlsRxSw": 2}
    pair.assert_told(collector.spans(), pair.expected(run, "pair"))
    balance.parse(collector.stderr()).assert_nothing_lost()


def test_a_connection_open_before(there: list[str | Path], tier: str, folder: Path, run: str) -> None:
    """Its handshake is over. The tracepoint tier sees the calls on its socket; the kprobe tier does not, and says that
    it does not know the server's."""
    server = start_secured("nginx", folder, directives=f"{KTLS} keepalive_timeout 600s;", before=there)
    with contextlib.ExitStack() as at_work:
        client = at_work.enter_context(KeepAlive(server, folder, authority=certificate(folder).file))
        client.ask(f"/f/{run}/0/page")
        with Collector(folder, tls=True, tier=tier) as collector:
            expected = client.expected([client.ask(f"/f/{run}/{turn}/page") for turn in range(1, 6)])
            at_work.close()
            server.running.stop()
    over_all = over_tls(expected)
    sheet = balance.parse(collector.stderr())
    sheet.assert_nothing_lost()
    if tier == "tracepoint":
        truth.assert_equal(over_all, collector.spans(), linked=False)
        return
    ends = {kind: [span for span in collector.spans() if span.kind == kind] for kind in ("CLIENT", "SERVER")}
    truth.assert_equal([one for one in over_all if one.kind == "CLIENT"], ends["CLIENT"])
    told = [(span.path, span.attributes["otelbpf.tls.evidence"]) for span in ends["SERVER"]]
    assert sorted(told) == [(f"/f/{run}/{turn}/page", "none") for turn in range(1, 6)]
    assert not {name for span in ends["SERVER"] for name in span.attributes if name.startswith("network.peer.")}
    assert sheet.lists["connections"]["tls_unattributed"] == 1
