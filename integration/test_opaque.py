"""What changes a connection, or looks as if it did, between real programs: WebSocket, a tunnel, a body not wanted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from integration.harness import balance, servers
from integration.harness.collector import Collector
from integration.harness.processes import Running, free_port, python, wait_until_serving
from integration.harness.programs import SOURCES, tool
from integration.harness.spans import SeenSpan

MESSAGES, REQUESTS = 29, 7


def told(spans: list[SeenSpan], *names: str) -> list[tuple[object, ...]]:
    """Kind, method and these attributes of each span, in order."""
    return sorted((span.kind, *map(span.attributes.get, ("http.request.method", *names))) for span in spans)


def test_a_websocket(tier: str, folder: Path, run: str) -> None:
    """aiohttp at both ends: one span a side for the upgrade, none for what is said then, though it looks like HTTP; the
    other connection's requests are whole."""
    port = free_port()
    with Collector(folder, tier=tier, ports=[port]) as collector:
        arguments = [str(port), f"/{run}", str(MESSAGES), str(REQUESTS)]
        with Running([python(), SOURCES / "websocket.py", *arguments], folder=folder, name="websocket") as program:
            assert program.wait() == 0, program.output()
    base = f"http://127.0.0.1:{port}/{run}"
    client, server = ("CLIENT", "GET"), ("SERVER", "GET")
    assert told(collector.spans(), "url.full", "url.path", "http.response.status_code") == [
        *[(*client, f"{base}/plain", None, 200)] * REQUESTS,
        (*client, f"{base}/socket", None, 101),
        *[(*server, None, f"/{run}/plain", 200)] * REQUESTS,
        (*server, None, f"/{run}/socket", 101),
    ]
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}
    assert sheet.lists["connections"]["opaque"] == 2


def apache_tunnels(home: Path, port: int, to: int) -> list[str | Path]:
    """Apache as a forward proxy that makes tunnels to one port."""
    modules = ("mpm_event", "authz_core", "proxy", "proxy_connect")
    loads = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules)
    config = home / "tunnels.conf"
    config.write_text(
        f"""
{loads}
ServerRoot {home}
PidFile {home}/tunnels.pid
ErrorLog {home}/tunnels.log
DefaultRuntimeDir {home}
ServerName localhost
User www-data
Group www-data
Listen 127.0.0.1:{port}
ProxyRequests On
AllowCONNECT {to}
"""
    )
    return [tool("apache2", "apache2", "/usr/sbin/apache2"), "-D", "FOREGROUND", "-f", config]


def test_a_tunnel(tier: str, folder: Path, run: str) -> None:
    """curl through Apache by CONNECT: granted, the tunnel is a span a side, and what goes through it is HTTP again for
    those it leads to; refused, it is the answer that was given, of which curl reads the head alone."""
    server, port = servers.start("go", folder), free_port()
    proxy = Running(apache_tunnels(folder, port, server.port), folder=folder, name="tunnels")
    wait_until_serving(proxy, port, ("127.0.0.1",))
    curl = [tool("curl", "curl"), "-q", "-s", "-o", "/dev/null", "--proxytunnel", "--proxy", f"http://127.0.0.1:{port}"]
    with Collector(folder, tier=tier, ports=[server.port, port]) as collector, server, proxy:
        subprocess.run([*curl, f"http://127.0.0.1:{server.port}/r/{run}/through"], cwd=folder, check=True)
        refused = subprocess.run([*curl, f"http://127.0.0.1:{port + 1}/"], cwd=folder, check=False)
        assert refused.returncode != 0
    through, tunnel, other = (
        f"http://127.0.0.1:{server.port}/r/{run}/through",
        f"//127.0.0.1:{server.port}",
        f"//127.0.0.1:{port + 1}",
    )
    spans = collector.spans()
    names = ("url.full", "url.path", "server.address", "server.port", "http.response.status_code", "error.type")
    expected: list[tuple[object, ...]] = [
        ("CLIENT", "CONNECT", tunnel, None, "127.0.0.1", server.port, 200, None),
        ("CLIENT", "CONNECT", other, None, "127.0.0.1", port + 1, 403, "connection_closed"),
        ("CLIENT", "GET", through, None, "127.0.0.1", server.port, 200, None),
        ("SERVER", "CONNECT", None, None, "127.0.0.1", server.port, 200, None),
        ("SERVER", "CONNECT", None, None, "127.0.0.1", port + 1, 403, None),
        ("SERVER", "GET", None, f"/r/{run}/through", "127.0.0.1", server.port, 200, None),
    ]
    assert told(spans, *names) == sorted(expected)
    programs = {(span.kind, span.attributes["http.request.method"], span.resource["service.name"]) for span in spans}
    assert programs == {
        ("CLIENT", "CONNECT", "curl"),
        ("SERVER", "CONNECT", "apache2"),
        ("CLIENT", "GET", "apache2"),
        ("SERVER", "GET", server.service),
    }
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


@pytest.mark.parametrize("again", [1, 3])
def test_a_body_that_is_not_wanted(again: int, tier: str, folder: Path, run: str) -> None:
    """curl asks before it sends much; told 417, it goes on over the same connection and does not ask again."""
    port, size = free_port(), 1_500_000
    body = folder / "body"
    body.write_bytes(b"x" * size)
    server = Running([python(), SOURCES / "expectation.py", str(port)], folder=folder, name="expectation")
    wait_until_serving(server, port, ("127.0.0.1",))
    urls = [f"http://127.0.0.1:{port}/{run}/{number}" for number in range(again)]
    with Collector(folder, tier=tier, ports=[port]) as collector, server:
        command = [tool("curl", "curl"), "-q", "-s", "--data-binary", f"@{body}", "-w", "%{num_connects} "]
        done = subprocess.run([*command, *urls], cwd=folder, check=True, capture_output=True, text=True)
    names = ("url.full", "url.path", "http.response.status_code", "http.request.body.size")
    expected: list[tuple[object, ...]] = []
    for number, url in enumerate(urls):
        for status, sent in ((200, size), (417, 0)):
            expected += [
                ("CLIENT", "POST", url, None, status, sent),
                ("SERVER", "POST", None, f"/{run}/{number}", status, sent),
            ]
    assert done.stdout.split() == ["1", *["0"] * (again - 1)], "not one connection: this proves nothing"
    assert told(collector.spans(), *names) == sorted(expected)
    assert not [span for span in collector.spans() if "otelbpf.request.incomplete" in span.attributes]
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}
