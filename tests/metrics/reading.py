"""Snapshots as tests compare them."""

from __future__ import annotations

from collections.abc import Iterable

from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.points import Family

Row = tuple[str, frozenset[tuple[str, str | int]]]


def values(families: Iterable[Family], name: str) -> dict[Row, int | float | Histogram]:
    """The series of one metric, which must be there once: its value by service and attributes."""
    (family,) = [family for family in families if family.name == name]
    found = {(point.service, frozenset(point.attributes)): point.value for point in family.points}
    assert len(found) == len(family.points), "two points for one series"
    return found


def row(service: str, **attributes: str | int) -> Row:
    """How a series is told; `_` stands for the dots of an attribute's name."""
    return service, frozenset((_NAMES.get(name, name.replace("_", ".")), value) for name, value in attributes.items())


_NAMES = {
    "role": "otelbpf.connection.role",
    "phase": "otelbpf.connection.phase",
    "peer": "service.peer.name",
    "cause": "otelbpf.stall.cause",
    "direction": "network.io.direction",
}
