"""The dashboards of config/grafana/dashboards, and every query in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parents[1] / "config" / "grafana" / "dashboards"
_VARIABLE = re.compile(r"\$\{?([a-z_]\w*)(?::\w+)?\}?")
# What Grafana puts in place of its own variables, and of one for which everything is chosen.
_OWN = {"__rate_interval": "1m", "__interval": "15s", "__range": "30m"}
_EVERYTHING = ".*"


class Query(msgspec.Struct, frozen=True):
    """A query and where it stands."""

    dashboard: str
    place: str
    """A panel's title and the query's letter, or a variable's name."""
    text: str
    """As it is written."""

    def filled(self, **chosen: str) -> str:
        """With values for its variables, as Grafana sends it."""
        values = {**_OWN, **chosen}
        # Where no value is chosen every one is: of a variable that stands for one value, too.
        wide = self.text.replace('="$', '=~"$') if not chosen else self.text
        return _VARIABLE.sub(lambda hit: values.get(hit[1], _EVERYTHING), wide)

    def variables(self) -> set[str]:
        """Those of the dashboard's own that it uses."""
        return {hit[1] for hit in _VARIABLE.finditer(self.text)} - _OWN.keys()


def dashboards() -> dict[str, dict[str, Any]]:
    """All of them, by file name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something: rows are only titles."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel, and what fills the variables."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Query(name, f"{panel['title']} {target['refId']}", target["expr"])
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                series = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
                assert series is not None, variable["query"]
                yield Query(name, f"variable {variable['name']}", series[1])
