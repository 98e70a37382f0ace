"""The dashboards' files: what Grafana would pass over in silence, or show without a unit, fails here."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import yaml

from otelbpf.exporters.exposition import metric_name
from otelbpf.exporters.prometheus import LedgerMetrics
from tests.dashboards import FOLDER, dashboards, panels, queries
from tests.fake_kernel import FakeKernel

DASHBOARDS = dashboards()
UNITS = {"Bps", "bytes", "cps", "percentunit", "reqps", "s", "short", "string"}
"""Of Grafana's own, those that are used: requests, counts and bytes a second, a share, seconds."""
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in panels(dashboard)]
LINK = re.compile(r"/d/([\w-]+)\?")
PROVISIONING = FOLDER.parent / "provisioning"


def test_the_dashboards_there_are() -> None:
    """Each has a uid and a title of its own, the data source to choose, and the tag by which they find each other."""
    assert {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()} == {
        name: f"otelbpf-{name}" for name in ("collector", "map", "overview", "service")
    }
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == 4
    for dashboard in DASHBOARDS.values():
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        assert dashboard["tags"] == ["otelbpf"]
        assert dashboard["links"][0]["tags"] == ["otelbpf"]


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_a_panel(name: str, panel: dict[str, Any]) -> None:
    """It explains itself, has a unit for all it shows, and asks the chosen data source."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    properties = [one for override in panel["fieldConfig"]["overrides"] for one in override["properties"]]
    units = [one["value"] for one in properties if one["id"] == "unit"]
    assert {panel["fieldConfig"]["defaults"]["unit"], *units} <= UNITS
    for target in panel["targets"]:
        assert target["expr"].count("(") == target["expr"].count(")") > 0
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    if panel["type"] == "table":
        columns = {
            new
            for change in panel["transformations"]
            if change["id"] == "organize"
            for new in change["options"]["renameByName"].values()
        }
        shown = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert columns == shown, "every column has a unit of its own"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_overlap(name: str) -> None:
    """Ids are unique, and each place holds one panel."""
    shown = DASHBOARDS[name]["panels"]
    assert max(Counter(panel["id"] for panel in shown).values()) == 1
    for one, other in combinations([panel["gridPos"] for panel in shown], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
        assert one["x"] + one["w"] <= 24


def test_every_variable_is_defined_and_used() -> None:
    """Grafana asks literally for what it does not know."""
    for name, dashboard in DASHBOARDS.items():
        defined = {variable["name"] for variable in dashboard["templating"]["list"]}
        used = set[str]().union(*(query.variables() for query in queries() if query.dashboard == name))
        assert used | {"datasource"} == defined


def test_links_lead_to_dashboards_that_are_there() -> None:
    """With the variable they set."""
    links = [
        str(one["url"])
        for _, panel in PANELS
        for override in panel["fieldConfig"]["overrides"]
        for shown in override["properties"]
        if shown["id"] == "links"
        for one in shown["value"]
    ]
    assert len(links) == 5
    for link in links:
        found = LINK.match(link)
        assert found is not None
        (target,) = [dashboard for dashboard in DASHBOARDS.values() if dashboard["uid"] == found[1]]
        assert set(re.findall(r"var-(\w+)=", link)) <= {one["name"] for one in target["templating"]["list"]}


def test_every_metric_exists() -> None:
    """Every name that is asked for is one that /metrics has."""
    kernel = FakeKernel()
    measured = {metric_name(family) for family in kernel.pipeline.measures.snapshot()}
    served = measured | {metric.name for metric in LedgerMetrics(kernel.ledger).collect()}
    names = r"\b(?:otelbpf_(?!connection_(?:role|phase)\b)|process_|http_(?:server|client)_|rpc_server|traces_)\w+"
    asked = {name for query in queries() for name in re.findall(names, query.text)}
    parts = ("", "_total", "_info", "_bucket", "_sum", "_count")
    assert asked - {name + part for name in served for part in parts} == set()
    assert len(asked) == 49


def test_the_provisioning_leads_here() -> None:
    """The data source has the links from exemplars to traces, and both are what the dashboards and compose use."""
    sources = yaml.safe_load((PROVISIONING / "datasources" / "otelbpf.yaml").read_text())["datasources"]
    prometheus, jaeger = sources
    assert (prometheus["type"], jaeger["type"]) == ("prometheus", "jaeger")
    (link,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert link == {"name": "trace_id", "datasourceUid": jaeger["uid"]}
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "otelbpf.yaml").read_text())["providers"]
    mounts = yaml.safe_load((FOLDER.parents[2] / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./config/grafana/dashboards:{provider['options']['path']}:ro" in mounts
