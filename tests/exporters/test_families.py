"""Metric families as Prometheus reads them, in both formats."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otelbpf.exporters.families import FamilyMetrics
from otelbpf.exporters.prometheus import registry_of, render
from tests.fake_kernel import FakeKernel

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
LABELS = {
    "job": "stock",
    "http_request_method": "GET",
    "url_scheme": "http",
    "network_protocol_version": "1.1",
    "http_response_status_code": "200",
    "http_route": "/{id}",
}


@pytest.fixture
def kernel() -> FakeKernel:
    """Three requests."""
    kernel = FakeKernel()
    kernel.process(100, "/bin/stock")
    kernel.process(200, "/bin/shop")
    client, server = kernel.pair()
    for number in range(3):
        client.send(GET % number)
        server.receive(GET % number).send(OK)
        client.receive(OK)
    return kernel


def scrape(kernel: FakeKernel, accept: str) -> str:
    registry = registry_of(kernel.ledger)
    registry.register(FamilyMetrics(kernel.pipeline.measures))
    return render(registry, accept)[0].decode()


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_what_a_scrape_reads(kernel: FakeKernel, accept: str) -> None:
    parse = parse_text if accept == "text/plain" else parse_openmetrics
    samples: Samples = {}
    for family in parse(scrape(kernel, accept)):
        for sample in family.samples:
            where = sample.name, frozenset(sample.labels.items())
            assert where not in samples, where
            samples[where] = sample.value

    assert of(samples, "http_server_request_duration_seconds_count", **LABELS) == 3
    assert of(samples, "http_server_request_duration_seconds_sum", **LABELS) == pytest.approx(3e-6)
    assert of(samples, "http_server_request_duration_seconds_bucket", le="0.005", **LABELS) == 3
    assert of(samples, "http_server_request_duration_seconds_bucket", le="+Inf", **LABELS) == 3
    assert of(samples, "http_server_response_body_size_bytes_sum", **LABELS) == 6
    between = {"client": "shop", "server": "stock", "connection_type": ""}
    assert of(samples, "traces_service_graph_request_total", **between) == 3
    assert of(samples, "traces_service_graph_request_failed_total", **between) == 0
    assert of(samples, "traces_service_graph_request_server_seconds_count", **between) == 3
    assert of(samples, "traces_service_graph_request_client_seconds_count", **between) == 3
    assert {dict(labels)["job"] for name, labels in samples if name == "target_info"} == {"shop", "stock"}


def test_exemplars_lead_to_spans(kernel: FakeKernel) -> None:
    """OpenMetrics has them."""
    span = next(span for span in reversed(kernel.spans()) if span.kind == 2)
    families = parse_openmetrics(scrape(kernel, "application/openmetrics-text"))  # type: ignore[no-untyped-call]
    found = [
        sample.exemplar
        for family in families
        if family.name == "http_server_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    ]
    assert [exemplar.labels for exemplar in found] == [{"trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()}]
