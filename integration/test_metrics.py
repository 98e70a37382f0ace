"""Metrics of a known load: the numbers of its spans, at /metrics and at a real OpenTelemetry Collector behind OTLP."""

from __future__ import annotations

import math
import urllib.request
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.harness import balance, calls, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.jaeger import BUILD_SECONDS, Jaeger
from integration.harness.plan import Request, app_plan, base_url
from integration.harness.processes import free_port, wait_for
from integration.harness.prometheus import Prometheus
from integration.harness.spans import SeenSpan
from otelbpf.metrics import red

# The first of them builds Jaeger, which takes minutes where nothing of it was compiled before.
pytestmark = pytest.mark.timeout(BUILD_SECONDS + 120)

COUNT = 57
SIZES = "http_{side}_{part}_body_size_bytes"
Kind = tuple[str, str, str, str, str, str]
"""Side, service, method, route, status, error."""
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Series:
    """Every sample of services; the labels by which the scraped one names itself are left out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(("http_", "rpc_", "traces_service_graph_")):
                labels = {name: value for name, value in sample.labels.items() if not name.startswith("otel_scope")}
                labels.pop("instance", None)
                if "le" in labels:
                    labels["le"] = str(float(labels["le"]))
                found[sample.name, frozenset((name, value) for name, value in labels.items() if value)] = sample.value
    return found


def of_spans(spans: list[SeenSpan]) -> Counter[Kind]:
    """How many there are of each kind."""
    return Counter(
        (
            span.kind.lower(),
            str(span.resource["service.name"]),
            str(span.attributes.get("http.request.method", "")),
            str(span.attributes.get("http.route", span.attributes.get("url.template", ""))),
            str(span.attributes.get("http.response.status_code", "")),
            str(span.attributes.get("error.type", "")),
        )
        for span in spans
    )


def of_metrics(series: Series) -> Counter[Kind]:
    """The same of what was counted."""
    found: Counter[Kind] = Counter()
    for (name, labels), value in series.items():
        for side in ("server", "client"):
            if name == f"http_{side}_request_duration_seconds_count":
                told = dict(labels)
                key = (
                    side,
                    told["job"],
                    told["http_request_method"],
                    told.get("http_route", told.get("url_template", "")),
                    told.get("http_response_status_code", ""),
                    told.get("error_type", ""),
                )
                found[key] += int(value)
    return found


def total(series: Series, name: str) -> float:
    """Over all its series."""
    return sum(value for (of, _), value in series.items() if of == name)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_same_numbers_everywhere(protocol: str, tier: str, folder: Path, run: str) -> None:
    """Counts by status and error, sums of sizes and of durations, and who calls whom."""
    server, port = servers.start("go", folder), free_port()
    with Jaeger(folder) as jaeger:
        environment = {**jaeger.environment(protocol), "OTEL_METRIC_EXPORT_INTERVAL": "300"}
        with (
            Collector(
                folder,
                tier=tier,
                ports=[server.port],
                listen=f"127.0.0.1:{port}",
                environment=environment,
            ) as collector,
            server,
        ):
            asked = ask("go", app_plan(run, base_url("v4", server.port), COUNT, agent="go"), folder)
            wait_for("every request to be counted", lambda: sum(of_metrics(scrape(port)).values()) == 2 * COUNT)
            told = scrape(port)
            wait_for(
                "them to be sent",
                lambda: scrape(jaeger.metrics_port) == told,
                otherwise=lambda: sorted(scrape(jaeger.metrics_port).items() ^ told.items(), key=str)[:6],
            )
        spans = collector.spans()
    truth.assert_equal(expect.both_ends(asked, server), spans, exact_sends=tier == "kprobe")
    balance.parse(collector.stderr()).assert_balanced()

    assert of_metrics(told) == of_spans(spans)
    assert {kind[3] for kind in of_metrics(told)} == {f"/r/{'{id}' if any(map(str.isdigit, run)) else run}/{{id}}"}
    for side in ("server", "client"):
        of_side = [span for span in spans if span.kind == side.upper()]
        for part in ("request", "response"):
            sizes = [span.attributes.get(f"http.{part}.body.size") for span in of_side]
            assert total(told, SIZES.format(side=side, part=part) + "_sum") == sum(size for size in sizes if size)
        seconds = sum(span.end_ns - span.start_ns for span in of_side) / 1e9
        assert total(told, f"http_{side}_request_duration_seconds_sum") == pytest.approx(seconds)
        assert total(told, f"traces_service_graph_request_{side}_seconds_count") == COUNT
    edges = {labels: value for (name, labels), value in told.items() if name == "traces_service_graph_request_total"}
    assert edges == {frozenset({("client", asked.service), ("server", server.service)}): COUNT}
    failed = sum(span.status == "ERROR" for span in spans if span.kind == "CLIENT")
    assert total(told, "traces_service_graph_request_failed_total") == failed


def test_calls_are_counted_by_method_and_status(tier: str, folder: Path, run: str) -> None:
    """Of gRPC."""
    plan, port = calls.plan(run, 52), free_port()
    serving = calls.Server("python", plan, folder)
    with Collector(folder, tier=tier, ports=[serving.port], listen=f"127.0.0.1:{port}") as collector:
        played = calls.play("python", serving, plan, folder, at_once=4)
        wait_for("every call", lambda: total(scrape(port), "rpc_server_call_duration_seconds_count") == len(plan))
        told = scrape(port)
        serving.running.stop()
    spans = collector.spans()
    calls.assert_equal(played, spans)
    for kind in ("SERVER", "CLIENT"):
        expected = Counter(
            (span.attributes.get("rpc.method", ""), span.attributes.get("rpc.response.status_code", ""))
            for span in spans
            if span.kind == kind
        )
        found: Counter[tuple[str, str]] = Counter()
        for (name, labels), value in told.items():
            if name == f"rpc_{kind.lower()}_call_duration_seconds_count":
                of = dict(labels)
                found[of.get("rpc_method", ""), of.get("rpc_response_status_code", "")] += int(value)
        assert found == expected


DELAYS_MS = {35: 24, 150: 14, 600: 2}
"""How many requests are held up by how much: 60, 35 and 5 %, each in the middle of a bucket."""


def test_quantiles_are_those_of_who_asked(tier: str, folder: Path, run: str) -> None:
    """A load of known delays: every request in the bucket of its delay, and quantiles as the client's own."""
    server, port = servers.start("go", folder), free_port()
    delays = [delay for delay, count in DELAYS_MS.items() for _ in range(count)]
    requests = [
        Request(id=str(number), url=f"{base_url('v4', server.port)}/r/{run}/{number}?delay={delay}")
        for number, delay in enumerate(delays)
    ]
    with Collector(folder, tier=tier, ports=[server.port], listen=f"127.0.0.1:{port}"), server:
        asked = ask("go", requests, folder, concurrency=2)
        wait_for("every request", lambda: sum(of_metrics(scrape(port)).values()) == 2 * len(requests))
        told = scrape(port)
    theirs = [(answer.end_ns - answer.start_ns) / 1e9 for answer in asked.answers.values()]
    for side in ("server", "client"):
        ours = histogram(told, f"http_{side}_request_duration_seconds")
        # The client's own clock runs from before its span until after it.
        assert ours.keys() == {bound_of(delay / 1e3) for delay in delays}
        assert ours == Counter(map(bound_of, theirs))
        for share in (0.5, 0.9, 0.99):
            assert quantile(ours, share) == bound_of(sorted(theirs)[math.ceil(share * len(theirs)) - 1])


def test_what_starts_again_makes_no_rate_negative(tier: str, folder: Path, run: str) -> None:
    """Neither a service nor the collector: the series are the same, and a counter that begins anew is known as that."""
    listen, port = free_port(), 0
    counted = "sum(http_server_request_duration_seconds_count)"
    with Prometheus(folder, f"127.0.0.1:{listen}") as prometheus:
        for turn in ("first", "second"):
            home = folder / turn
            home.mkdir()
            with (
                servers.start("go", home, port=port) as server,
                Collector(home, tier=tier, ports=[server.port], listen=f"127.0.0.1:{listen}"),
            ):
                port = server.port
                for count in (19, 38):
                    requests = app_plan(run, base_url("v4", port), 19, agent="go")
                    ask("go", requests, home, name=f"asking-{count}")
                    wait_for("a scrape of them", lambda count=count: prometheus.values(counted) == [count])  # type: ignore[misc]
        of_a_service = 'http_server_request_duration_seconds_count{job="test-go"}'
        resets = prometheus.values(f"resets({of_a_service}[5m])")
        assert len(resets) == len(prometheus.query(f"last_over_time({of_a_service}[5m])")) > 0
        assert set(resets) == {1.0}
        rates = prometheus.values(f"min_over_time(rate({of_a_service}[15s])[2m:1s])")
        assert rates
        assert min(rates) >= 0


def bound_of(seconds: float) -> float:
    """The upper bound of the bucket that a duration falls in."""
    return next(bound for bound in red.SECONDS if seconds <= bound)


def histogram(series: Series, name: str) -> Counter[float]:
    """How many values the buckets have that are not empty, by upper bound, over all its series."""
    below: Counter[float] = Counter()
    for (of, labels), value in series.items():
        if of == f"{name}_bucket":
            below[float(dict(labels)["le"])] += int(value)
    bounds = sorted(below)
    counts = {bound: below[bound] - below[before] for before, bound in pairwise([0.0, *bounds])}
    return Counter({bound: count for bound, count in counts.items() if count})


def quantile(counts: Counter[float], share: float) -> float:
    """The upper bound of the bucket in which that share of the values is reached."""
    reached = 0
    for bound in sorted(counts):
        reached += counts[bound]
        if reached >= share * counts.total():
            return bound
    raise AssertionError("an empty histogram")
