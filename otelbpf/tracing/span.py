"""Spans and resources as the exporters take them: plain values, ids made, attributes final, secrets already removed."""

from __future__ import annotations

import enum
from typing import Final

from otelbpf.values import Value

AttributeValue = str | int | float | bool | tuple[str, ...]
"""Of one type for one key, always, as the conventions demand: exporters remember encodings by (key, value), and Python
holds 1, 1.0 and True for equal."""


class Kind(enum.IntEnum):
    """opentelemetry/proto/trace/v1/trace.proto, Span.SpanKind"""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Status(enum.IntEnum):
    """opentelemetry/proto/trace/v1/trace.proto, Status.StatusCode"""

    UNSET = 0
    OK = 1
    ERROR = 2


class Encoded:
    """Attributes that many spans have in common: as one object, they are encoded once."""

    def __init__(self, attributes: tuple[tuple[str, AttributeValue], ...] = ()) -> None:
        self.attributes: Final = attributes
        self.protobuf = b""
        self.json = b""
        """What exporters made of it, empty until then: kept here, it goes when the process or the connection goes."""


class Resource(Encoded):
    """Who a span belongs to. One object per process for as long as it lives."""


def service_of(resource: Resource) -> str:
    """The name of a service, as `job` has it: behind its namespace, where it has one
    (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#resource-attributes-1)."""
    found = dict(resource.attributes)
    name, namespace = str(found["service.name"]), found.get("service.namespace")
    return f"{namespace}/{name}" if namespace else name


class AttributeSet(Encoded):
    """What the spans of a connection have in common."""

    def __init__(self, attributes: tuple[tuple[str, AttributeValue], ...] = ()) -> None:
        super().__init__(attributes)
        self.resource: Resource | None = None
        self.peer: Resource | None = None
        self.group: object = None
        """Where the metrics counted what has these attributes, and who was at the ends then; theirs alone."""


NOTHING_SHARED: Final = AttributeSet()


class Span(Value):
    """One side of one exchange. Times are Unix nanoseconds."""

    __match_args__ = (
        "trace_id",
        "span_id",
        "parent_id",
        "flags",
        "trace_state",
        "name",
        "kind",
        "start_ns",
        "end_ns",
        "attributes",
        "status",
        "resource",
        "shared",
    )

    def __init__(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent_id: bytes,
        flags: int,
        trace_state: str,
        name: str,
        kind: Kind,
        start_ns: int,
        end_ns: int,
        attributes: tuple[tuple[str, AttributeValue], ...],
        status: Status,
        resource: Resource,
        shared: AttributeSet = NOTHING_SHARED,
    ) -> None:
        self.trace_id: Final = trace_id
        """16 bytes"""
        self.span_id: Final = span_id
        """8 bytes"""
        self.parent_id: Final = parent_id
        """8 bytes, or empty for a root"""
        self.flags: Final = flags
        """W3C trace flags (lowest byte) and the OTLP bits above: 0x100 'is remote' is known, 0x200 the parent is
        remote"""
        self.trace_state: Final = trace_state
        self.name: Final = name
        self.kind: Final = kind
        self.start_ns: Final = start_ns
        self.end_ns: Final = end_ns
        self.attributes: Final = attributes
        """The span's own; `shared` has the others, and no name stands in both."""
        self.status: Final = status
        self.resource: Final = resource
        self.shared: Final = shared


Exemplars = dict[int, tuple[float, bytes, bytes, int]]
"""By bucket of a histogram its newest value that has a span: the value, the trace's and the span's ids, Unix time."""

SCOPE_NAME: Final = "otelbpf"
"""The instrumentation scope of every span; its version is the package's."""
