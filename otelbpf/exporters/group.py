"""Spans in groups of one resource, which is how OTLP writes them down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otelbpf.tracing.span import Resource, Span

GROUP_SPANS: Final = 512
"""The most spans in one group, so that splitting a group costs little."""


class Group:
    """Encoded spans of one resource, in the order of their ends."""

    __slots__ = ("resource", "size_bytes", "spans")

    def __init__(self, resource: bytes, spans: list[bytes], size_bytes: int) -> None:
        self.resource = resource
        """The encoded resource: groups whose resource bytes are equal go into one batch as one."""
        self.spans = spans
        self.size_bytes = size_bytes
        """The sum of the lengths of `spans`."""

    def __repr__(self) -> str:
        return f"Group({len(self.spans)} spans, {self.size_bytes} bytes)"

    def split(self, count: int) -> Group:
        """Take away the first `count` spans."""
        head = self.spans[:count]
        del self.spans[:count]
        size_bytes = sum(map(len, head))
        self.size_bytes -= size_bytes
        return Group(self.resource, head, size_bytes)


def by_resource(spans: Sequence[Span]) -> list[tuple[Resource, list[Span]]]:
    """The spans in lists of one resource and at most `GROUP_SPANS` each; their order within a resource stays."""
    groups: list[tuple[Resource, list[Span]]] = []
    latest: dict[Resource, list[Span]] = {}
    resource: Resource | None = None
    members: list[Span] = []
    for span in spans:
        if span.resource is not resource or len(members) >= GROUP_SPANS:
            resource = span.resource
            found = latest.get(resource)
            if found is None or len(found) >= GROUP_SPANS:
                found = latest[resource] = []
                groups.append((resource, found))
            members = found
        members.append(span)
    return groups


def merged(groups: Sequence[Group]) -> dict[bytes, list[Group]]:
    """The groups by their encoded resource, in the order in which resources first appear."""
    found: dict[bytes, list[Group]] = {}
    for group in groups:
        found.setdefault(group.resource, []).append(group)
    return found
