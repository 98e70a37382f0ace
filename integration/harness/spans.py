"""Spans as a file of OTLP/JSON lines holds them (OTLP file exporter format), read without the collector's own code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

KINDS = {2: "SERVER", 3: "CLIENT"}
STATUSES = {0: "UNSET", 1: "OK", 2: "ERROR"}


class SeenSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span of the file and the resource it belongs to."""

    trace_id: str
    span_id: str
    parent_id: str
    flags: int
    trace_state: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def pid(self) -> int:
        """The process it is told of."""
        return int(self.resource.get("process.pid", 0))

    @property
    def path(self) -> str:
        """url.path, or the path within url.full."""
        if "url.path" in self.attributes:
            return str(self.attributes["url.path"])
        return urlsplit(str(self.attributes.get("url.full", ""))).path

    def summary(self) -> str:
        """One line for a failed assertion."""
        service = self.resource.get("service.name")
        return f"{self.kind} {self.name} {service}[{self.pid}] {self.status} {self.attributes}"


def value_of(value: dict[str, Any]) -> Any:
    """An AnyValue as Python has it (opentelemetry/proto/common/v1; in JSON 64-bit integers are strings)."""
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return tuple(value_of(one) for one in content.get("values", ()))
    assert kind in ("stringValue", "boolValue", "doubleValue"), f"unknown attribute value {value}"
    return content


def attributes_of(pairs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as a dict; a key told twice is an error (OTLP forbids it)."""
    attributes: dict[str, Any] = {}
    for pair in pairs:
        assert pair["key"] not in attributes, f"attribute {pair['key']} twice"
        attributes[pair["key"]] = value_of(pair["value"])
    return attributes


def parse(text: str) -> list[SeenSpan]:
    """Every span of the lines; span ids must be unique."""
    spans: list[SeenSpan] = []
    for line in text.splitlines():
        for group in json.loads(line)["resourceSpans"]:
            resource = attributes_of(group["resource"]["attributes"])
            for scope in group["scopeSpans"]:
                assert scope["scope"]["name"] == "otelbpf", scope["scope"]
                spans.extend(_span(span, resource) for span in scope["spans"])
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans), f"{len(spans) - len(ids)} span ids are used twice"
    return spans


def _span(span: dict[str, Any], resource: dict[str, Any]) -> SeenSpan:
    assert len(span["traceId"]) == 32, span["traceId"]
    assert len(span["spanId"]) == 16, span["spanId"]
    return SeenSpan(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        flags=span.get("flags", 0),
        trace_state=span.get("traceState", ""),
        name=span["name"],
        kind=KINDS[span["kind"]],
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        status=STATUSES[span.get("status", {}).get("code", 0)],
        attributes=attributes_of(span["attributes"]),
        resource=resource,
    )


def read(path: Path) -> list[SeenSpan]:
    """The spans of a file."""
    return parse(path.read_text())
