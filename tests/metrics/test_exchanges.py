"""Metrics of requests and the graph of services: exact values of exactly known exchanges."""

from __future__ import annotations

import math

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.semconv._incubating.metrics import http_metrics, rpc_metrics

from otelbpf.events.encode import encode_clock
from otelbpf.metrics import red
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.series import MAX_OF_SERVICE
from otelbpf.tracing.options import SpanOptions
from otelbpf.tracing.sampling import make_sampler
from tests.fake_kernel import BOOT_NS, SECOND_NS, STEP_NS, FakeKernel, FakeSocket
from tests.metrics.reading import values

GET = b"GET /%d HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n"
POST = b"POST /up HTTP/1.1\r\nHost: shop.example:8080\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok"
SERVER, CLIENT = "http.server.request.duration", "http.client.request.duration"
Key = tuple[str, tuple[tuple[str, str | int], ...]]


def counts(kernel: FakeKernel, name: str) -> dict[Key, int | float]:
    """By service and attributes, in their order, how many values each series has, or what it has come to."""
    found = values(kernel.pipeline.measures.snapshot(), name)
    return {
        (service, tuple(sorted(attributes))): value.count if isinstance(value, Histogram) else value
        for (service, attributes), value in found.items()
    }


def histogram(kernel: FakeKernel, name: str) -> Histogram:
    """The only series of a metric."""
    (value,) = values(kernel.pipeline.measures.snapshot(), name).values()
    assert isinstance(value, Histogram)
    return value


def key(service: str, **attributes: str | int) -> Key:
    return service, tuple(sorted((name.replace("__", "."), value) for name, value in attributes.items()))


def served(status: int, *, method: str = "GET", route: str = "/{id}", **more: str | int) -> Key:
    return key(
        "stock",
        http__request__method=method,
        url__scheme="http",
        network__protocol__version="1.1",
        http__response__status_code=status,
        http__route=route,
        **more,
    )


def asked(status: int, **more: str | int) -> Key:
    return key(
        "shop",
        http__request__method="GET",
        url__scheme="http",
        network__protocol__version="1.1",
        http__response__status_code=status,
        server__address="shop.example",
        server__port=8080,
        url__template="/{id}",
        **more,
    )


def name_processes(kernel: FakeKernel) -> FakeKernel:
    kernel.process(100, "/bin/stock")
    kernel.process(200, "/bin/shop")
    return kernel


@pytest.fixture
def kernel() -> FakeKernel:
    return name_processes(FakeKernel())


def both(kernel: FakeKernel, statuses: list[int], *, port: int = 40000) -> tuple[FakeSocket, FakeSocket]:
    """Requests over one connection of which both ends are seen."""
    client, server = kernel.pair(port=port)
    for number, status in enumerate(statuses):
        client.send(GET % number)
        server.receive(GET % number).send(OK % status)
        client.receive(OK % status)
    return client, server


def test_each_request_counts_once_at_each_end(kernel: FakeKernel) -> None:
    """By status, error and method; what is an error to a client need not be one to the server."""
    both(kernel, [200] * 5 + [404] * 2 + [500] * 3)
    kernel.accept().receive(POST).send(OK % 201)

    assert counts(kernel, SERVER) == {
        served(200): 5,
        served(404): 2,
        served(500, error__type="500"): 3,
        served(201, method="POST", route="/up"): 1,
    }
    assert counts(kernel, CLIENT) == {
        asked(200): 5,
        asked(404, error__type="404"): 2,
        asked(500, error__type="500"): 3,
    }


def test_connections_and_processes_of_a_service_make_no_series_of_their_own(kernel: FakeKernel) -> None:
    kernel.process(101, "/bin/stock")
    for number in range(20):
        kernel.accept(pid=100 + number % 2, peer_port=41000 + number).receive(GET % 1).send(OK % 200)
    assert counts(kernel, SERVER) == {served(200): 20}


def test_durations_and_sizes_are_the_span_s(kernel: FakeKernel) -> None:
    kernel.accept().receive(POST).send(OK % 200)
    (span,) = kernel.spans()
    duration = histogram(kernel, SERVER)
    assert duration.total == (span.end_ns - span.start_ns) / 1e9 == STEP_NS / 1e9
    sizes = [histogram(kernel, f"http.server.{part}.body.size") for part in ("request", "response")]
    assert [(size.total, size.count) for size in sizes] == [(5, 1), (2, 1)]


def test_an_exemplar_is_a_span_that_is_exported(kernel: FakeKernel) -> None:
    """The newest of its bucket."""
    kernel.accept().receive(GET % 1).send(OK % 200).receive(GET % 2).send(OK % 200)
    span = kernel.spans()[-1]
    (exemplar,) = histogram(kernel, SERVER).exemplars.values()
    assert exemplar == ((span.end_ns - span.start_ns) / 1e9, span.trace_id, span.span_id, span.end_ns)


def test_a_clock_that_is_set_anew_changes_no_duration(kernel: FakeKernel) -> None:
    """Between a request and its answer, an hour back and a year ahead."""
    socket = kernel.accept()
    for step_ns in (-3600 * SECOND_NS, 365 * 24 * 3600 * SECOND_NS):
        socket.receive(GET % 1)
        kernel.put(encode_clock(time_ns=kernel.tick(), offset_ns=BOOT_NS + step_ns))
        socket.send(OK % 200)
    spans = kernel.spans()
    assert [span.end_ns - span.start_ns for span in spans] == [2 * STEP_NS] * 2
    assert histogram(kernel, SERVER).total == pytest.approx(4 * STEP_NS / 1e9)


def test_what_is_sampled_out_is_counted_all_the_same() -> None:
    """But is no example of anything."""
    kernel = name_processes(FakeKernel(options=SpanOptions(sample=make_sampler("always_off"))))
    both(kernel, [200] * 4)
    assert kernel.spans() == []
    assert counts(kernel, SERVER) == {served(200): 4}
    assert histogram(kernel, SERVER).exemplars == {}
    assert counts(kernel, "traces_service_graph_request") == {edge("shop", "stock"): 4}


def edge(client: str, server: str, kind: str = "") -> Key:
    return key("", client=client, server=server, connection_type=kind)


def test_an_edge_of_two_ends_on_this_host_counts_once(kernel: FakeKernel) -> None:
    both(kernel, [200] * 5 + [500])
    assert counts(kernel, "traces_service_graph_request") == {edge("shop", "stock"): 6}
    assert counts(kernel, "traces_service_graph_request_failed") == {edge("shop", "stock"): 1}
    for side in ("client", "server"):
        assert counts(kernel, f"traces_service_graph_request_{side}") == {edge("shop", "stock"): 6}


def test_who_is_elsewhere_is_called_by_what_was_asked_for(kernel: FakeKernel) -> None:
    """A server by its host; clients are users."""
    kernel.accept().receive(GET % 1).send(OK % 200)
    kernel.connect().send(GET % 1).receive(OK % 503)
    outside, user = edge("shop", "shop.example", "virtual_node"), edge("user", "stock", "virtual_node")
    assert counts(kernel, "traces_service_graph_request") == {user: 1, outside: 1}
    assert counts(kernel, "traces_service_graph_request_failed") == {user: 0, outside: 1}
    assert counts(kernel, "traces_service_graph_request_client") == {outside: 1}
    assert counts(kernel, "traces_service_graph_request_server") == {user: 1}


def test_the_names_are_the_conventions(kernel: FakeKernel) -> None:
    names = {family.name for family in kernel.pipeline.measures.exchanges.red.snapshot()}
    assert names == {
        http_metrics.HTTP_SERVER_REQUEST_DURATION,
        http_metrics.HTTP_SERVER_REQUEST_BODY_SIZE,
        http_metrics.HTTP_SERVER_RESPONSE_BODY_SIZE,
        http_metrics.HTTP_CLIENT_REQUEST_DURATION,
        http_metrics.HTTP_CLIENT_REQUEST_BODY_SIZE,
        http_metrics.HTTP_CLIENT_RESPONSE_BODY_SIZE,
        rpc_metrics.RPC_SERVER_CALL_DURATION,
        rpc_metrics.RPC_CLIENT_CALL_DURATION,
    }


def test_buckets_are_those_of_the_sdk() -> None:
    """Every bound itself, and what lies beside it."""
    ours = Histogram(red.SECONDS)
    reader = InMemoryMetricReader()
    view = View(instrument_name="*", aggregation=ExplicitBucketHistogramAggregation(red.SECONDS))
    theirs = MeterProvider(metric_readers=[reader], views=[view]).get_meter("test").create_histogram("h")
    for bound in (0.0, *red.SECONDS):
        for value in (bound, math.nextafter(bound, 1e9), math.nextafter(bound, 0.0)):
            ours.add(value)
            theirs.record(value)
    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert (ours.counts, ours.bounds) == (list(point.bucket_counts), tuple(point.explicit_bounds))
    assert ours.total == pytest.approx(point.sum)


def test_what_a_client_invents_is_bounded_and_the_sums_stay_right(kernel: FakeKernel) -> None:
    """A host for each request, beyond the series there may be."""
    most = MAX_OF_SERVICE
    socket = kernel.connect()
    for number in range(most + 500):
        socket.send(b"GET / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number).receive(OK % 200)
    series = counts(kernel, CLIENT)
    assert len(series) == most
    assert sum(series.values()) == most + 500
    assert series[key("shop", otel__metric__overflow=True)] == 501
    edges = counts(kernel, "traces_service_graph_request")
    assert (len(edges), sum(edges.values())) == (most, most + 500)


def test_what_is_known_of_a_service(kernel: FakeKernel) -> None:
    """Not of a process of it."""
    both(kernel, [200])
    services = kernel.pipeline.measures.exchanges.services
    assert set(services) == {"shop", "stock"}
    told = dict(services["stock"])
    assert told["process.executable.name"] == "stock"
    assert not {"process.pid", "service.instance.id", "service.name"} & told.keys()


def test_a_connection_older_than_the_probes_counts_once(kernel: FakeKernel) -> None:
    """Its two ends know each other by their addresses, in one network namespace; its spans are not joined."""
    client, server = kernel.connect(joined=True), kernel.accept(joined=True)
    for number in range(3):
        client.send(GET % number)
        server.receive(GET % number).send(OK % 200)
        client.receive(OK % 200)
    kernel.wait()
    spans = kernel.spans()
    assert counts(kernel, "traces_service_graph_request") == {edge("shop", "stock"): len(spans) // 2}
    assert {span.parent_id for span in spans} == {b""}
    client.close()
    server.close()

    kernel.accept(joined=True).receive(GET % 9).send(OK % 200)
    kernel.wait()
    (last,) = kernel.spans()
    assert counts(kernel, "traces_service_graph_request")[edge("user", "stock", "virtual_node")] == 1
    assert last.kind == 2


def test_one_whose_client_is_left_out_counts_all_the_same() -> None:
    """At the end that is told of."""
    kernel = name_processes(FakeKernel(traced=lambda process: process.executable == "/bin/stock"))
    client, server = kernel.connect(joined=True), kernel.accept(joined=True)
    for number in range(3):
        client.send(GET % number)
        server.receive(GET % number).send(OK % 200)
        client.receive(OK % 200)
    kernel.wait()
    told = len(kernel.spans())
    assert told > 0
    assert counts(kernel, "traces_service_graph_request") == {edge("user", "stock", "virtual_node"): told}
