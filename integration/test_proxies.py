"""A request that passes through a proxy: four spans, each end of each hop, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from integration.harness import balance, envoy, expect, proxied, servers
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import base_url
from integration.harness.secured import certificate, start_secured

pytestmark = pytest.mark.usefixtures("alone")

COUNT = 61


@pytest.mark.parametrize("proxy", ["nginx", "apache", "caddy"])
def test_four_spans_a_request(proxy: str, tier: str, folder: Path, run: str) -> None:
    """The client's, the proxy's as server and as client, the upstream's."""
    upstream = servers.start("go", folder)
    front = servers.start(proxy, folder, upstream=upstream.port)
    with Collector(folder, tier=tier, ports=[front.port, upstream.port]) as collector, upstream, front:
        plan = expect.file_plan(run, base_url("v4", front.port), COUNT, agent="go", kinds=("proxy", "files"))
        asked = ask("go", plan, folder)
        expected = proxied.spans_expected(asked, front, upstream, names_client=proxy != "nginx")
    proxied.assert_equal(expected, collector.spans(), (front.port, upstream.port), exact_sends=tier == "kprobe")


@pytest.mark.parametrize("behind", ["plain text", "TLS"])
def test_a_proxy_that_ends_tls(behind: str, tier: str, folder: Path, run: str) -> None:
    """haproxy: what it decrypts goes on in plain text, or encrypted again, over a connection of its own."""
    secured = behind == "TLS"
    upstream = start_secured("gunicorn-gthread", folder) if secured else servers.start("go", folder)
    front = start_secured("haproxy-tls" if secured else "haproxy", folder, upstream=upstream.port)
    with Collector(folder, tls=True, tier=tier, ports=[front.port, upstream.port]) as collector, upstream, front:
        base = base_url("v4", front.port, scheme="https")
        plan = expect.file_plan(run, base, COUNT, agent="requests", kinds=("proxy",))
        asked = ask("requests", plan, folder, environment=certificate(folder).trust)
        schemes = ("https", "https" if secured else "http")
        expected = proxied.spans_expected(asked, front, upstream, names_client=False, schemes=schemes)
    spans = collector.spans()
    proxied.assert_equal(expected, spans, (front.port, upstream.port))
    assert {span.attributes.get("otelbpf.tls.evidence") for span in spans} == {
        "nested_call",
        *([] if secured else [None]),
    }
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lost == {}


def test_streams_that_envoy_passes_on(tier: str, folder: Path, run: str) -> None:
    """HTTP/2 on both sides, many streams of many clients' connections over few of its own."""
    upstream = servers.start("hypercorn", folder)
    front = envoy.start(folder, upstream)
    with Collector(folder, tier=tier, ports=[front.port, upstream.port]) as collector, upstream, front:
        plan = expect.file_plan(run, base_url("v4", front.port), COUNT, agent="httpx", kinds=("proxy",))
        asked = ask("httpx-http2", [replace(request, version="2") for request in plan], folder)
        expected = proxied.spans_expected(asked, front, upstream, names_client=False, onward_version="2")
    proxied.assert_equal(expected, collector.spans(), (front.port, upstream.port), exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_nothing_lost()
