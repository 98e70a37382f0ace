"""A metric as it stands at one time: what exporters get."""

from __future__ import annotations

from typing import Literal

import msgspec

from otelbpf.metrics.histogram import Histogram

Attributes = tuple[tuple[str, str | int], ...]


class Point(msgspec.Struct, frozen=True):
    """One series as it stands; a histogram goes on counting, so whoever takes the snapshot reads it there and then."""

    service: str
    attributes: Attributes
    value: int | float | Histogram


class Family(msgspec.Struct, frozen=True):
    """One metric with its series."""

    name: str
    kind: Literal["counter", "updown", "gauge", "histogram"]
    unit: str
    description: str
    points: tuple[Point, ...]
