"""One command up: the example's traces, from the load generator to the last service, and the collector's metrics."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from integration.harness.compose import LEFT_OUT, Composed, services
from integration.harness.docker import BUILD_SECONDS, Engine
from integration.harness.jaeger import BUILD_SECONDS as JAEGER_SECONDS
from integration.harness.processes import wait_for

pytestmark = pytest.mark.timeout(2 * BUILD_SECONDS + JAEGER_SECONDS)

HOPS = [("load", "shop", "/order/{}"), ("shop", "stock", "/articles/{}"), ("stock", "price", "/prices/{}")]
STATUSES = {13: (404, 2), 17: (500, 3)}
"""Of articles that are not answered with 200, and how many hops their request goes."""


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """Everything at work."""
    with Engine() as engine, Composed(engine) as running:
        yield running


def get(url: str, **query: str) -> Any:
    """The JSON of an answer."""
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=10) as response:
        return json.load(response)


def traces(composed: Composed) -> list[dict[str, Any]]:
    """What Jaeger has of the load generator."""
    found: list[dict[str, Any]] = get(f"{composed.url('jaeger')}/api/traces", service="load", limit="1000")["data"]
    return found


def told(trace: dict[str, Any]) -> Counter[tuple[str, str, str, int]]:
    """Kind, service, path and status of each span."""
    spans = Counter[tuple[str, str, str, int]]()
    for span in trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        path = urllib.parse.urlsplit(str(tags.get("url.full", ""))).path or tags["url.path"]
        service = trace["processes"][span["processID"]]["serviceName"]
        spans[tags["span.kind"], service, path, tags["http.response.status_code"]] += 1
    return spans


def expected(article: int) -> Counter[tuple[str, str, str, int]]:
    """Both ends of every hop."""
    status, hops = STATUSES.get(article, (200, 3))
    return Counter(
        end
        for client, server, path in HOPS[:hops]
        for end in (
            ("client", client, path.format(article), status),
            ("server", server, path.format(article), status),
        )
    )


def article_of(trace: dict[str, Any]) -> int:
    """Of the order that the trace is of."""
    (order,) = {path for _, service, path, _ in told(trace) if service in ("load", "shop") and "/order/" in path}
    return int(order.rpartition("/")[2])


def test_the_traces_of_the_example(composed: Composed) -> None:
    """Every order is one trace through four programs in three languages: both ends of each hop and nothing else, of
    the parent that the load's header names. The first ones, and those still under way, are left out."""

    def enough() -> list[dict[str, Any]]:
        found = traces(composed)
        return found if len(found) >= 120 else []

    wait_for("120 traces", enough, within_seconds=60, otherwise=lambda: composed("logs", "--tail=20", "otelbpf"))
    begun = sorted(enough(), key=lambda trace: min(span["startTime"] for span in trace["spans"]))
    whole = begun[20:100]
    assert [told(trace) for trace in whole] == [expected(article_of(trace)) for trace in whole]
    assert {article_of(trace) for trace in whole} == set(range(1, 21))
    parents = [{one["spanID"] for span in trace["spans"] for one in span["references"]} for trace in whole]
    # The header is handed on as it came, so all stand side by side below the parent that it names.
    assert [len(ids) for ids in parents] == [1] * len(whole)
    assert not set().union(*parents) & {span["spanID"] for trace in whole for span in trace["spans"]}


def test_the_spans_tell_their_containers(composed: Composed) -> None:
    """Each service's are those of its own container."""
    seen: dict[str, set[str]] = {}
    for trace in wait_for("traces", lambda: traces(composed)):
        for process in trace["processes"].values():
            tags = {tag["key"]: tag["value"] for tag in process["tags"]}
            seen.setdefault(process["serviceName"], set()).add(tags["container.id"])
    assert seen == {name: {composed.container(name)["Id"]} for name in ("load", "shop", "stock", "price")}


def test_prometheus_has_the_collector_s_metrics(composed: Composed) -> None:
    """The scrape works, and the collector's own export comes back neither from its end nor from Jaeger's."""
    url = composed.url("prometheus")

    def value(query: str) -> float:
        result = get(f"{url}/api/v1/query", query=query)["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    wait_for("spans in Prometheus", lambda: value("otelbpf_spans_total") > 100, within_seconds=60)
    assert value('up{job="otelbpf"}') == 1
    # Its account is exact only while no request is under way.
    wait_for("the bytes to balance", lambda: value("otelbpf_bytes_difference == bool 0") == 1)
    jaeger = f"{composed.url('jaeger')}/api"
    operations = [
        name
        for service in get(f"{jaeger}/services")["data"]
        for name in get(f"{jaeger}/services/{service}/operations")["data"]
    ]
    assert [name for name in operations if "opentelemetry.proto" in name] == []
    assert "otelbpf" not in get(f"{jaeger}/services")["data"]


def test_versions_are_pinned_and_grafana_alone_is_missing(composed: Composed) -> None:
    """Every image that is not built here has a version, and every service but one runs."""
    for name, service in services().items():
        assert "build" in service or service["image"].rpartition(":")[2][-1].isdigit(), name
    running = composed("ps", "--services", "--filter", "status=running").split()
    assert sorted(running) == sorted(services().keys() - {LEFT_OUT})
    assert wait_for("a verdict", lambda: verdict(composed), within_seconds=60) == "healthy"


def verdict(composed: Composed) -> str:
    """Of the collector's health check; empty until there is one."""
    status = str(composed.container("otelbpf")["State"]["Health"]["Status"])
    return "" if status == "starting" else status
