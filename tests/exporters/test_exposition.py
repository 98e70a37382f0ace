"""What is measured of services, as Prometheus reads it, in both formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from otelbpf.exporters.exposition import Exposition, metric_name
from otelbpf.exporters.prometheus import MetricsPage
from otelbpf.metrics.histogram import Histogram
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
    page = MetricsPage(kernel.ledger)
    page.more = Exposition(kernel.pipeline.measures).pieces
    return b"".join(page.render(accept)[0]).decode()


def read(text: str, accept: str) -> Samples:
    """By name and labels, each once."""
    samples: Samples = {}
    for family in (parse_text if accept == "text/plain" else parse_openmetrics)(text):
        for sample in family.samples:
            where = sample.name, frozenset(sample.labels.items())
            assert where not in samples, where
            samples[where] = sample.value
    return samples


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_what_a_scrape_reads(kernel: FakeKernel, accept: str) -> None:
    samples = read(scrape(kernel, accept), accept)
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


class ByTheLibrary(Collector):
    """The same families, written by Prometheus' own client."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._families = kernel.pipeline.measures.snapshot()

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            kind = "gauge" if family.kind == "updown" else family.kind
            metric = Metric(metric_name(family), family.description, kind)
            for point in family.points:
                labels = {"job": point.service} if point.service else {}
                labels |= {name.replace(".", "_"): str(value) for name, value in point.attributes}
                if isinstance(point.value, Histogram):
                    bounds = [*map(str, map(float, point.value.bounds)), "+Inf"]
                    for bound, count in zip(bounds, accumulate(point.value.counts), strict=True):
                        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
                    metric.add_sample(f"{metric.name}_count", labels, point.value.count)
                    metric.add_sample(f"{metric.name}_sum", labels, point.value.total)
                else:
                    metric.add_sample(metric.name + "_total" * (kind == "counter"), labels, point.value)
            yield metric


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_it_reads_as_what_the_client_library_writes(kernel: FakeKernel, accept: str) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ByTheLibrary(kernel))
    theirs = choose_encoder(accept)[0](registry).decode()
    ours = read(scrape(kernel, accept), accept)
    expected = read(theirs, accept)
    assert len(expected) > 100
    assert {where: ours.get(where) for where in expected} == expected


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_whatever_a_stranger_calls_himself(accept: str) -> None:
    """Quotes, backslashes and bytes that are no text: a scrape stays readable."""
    kernel = FakeKernel()
    kernel.process(200, "/bin/shop")
    host = b'a"b\\c\xff'
    kernel.connect().send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").receive(OK)
    names = {dict(labels).get("server") for name, labels in read(scrape(kernel, accept), accept)}
    assert names - {None} == {'a"b\\c\xff'}
