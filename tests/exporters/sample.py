"""Spans to try exporters with, and the same spans as the official encoder writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status as SdkStatus
from opentelemetry.trace.status import StatusCode

from otelbpf.tracing.span import NOTHING_SHARED, SCOPE_NAME, AttributeSet, AttributeValue, Kind, Resource, Span, Status
from otelbpf.values import replace

VERSION = "1.2.3"
SHOP = Resource(attributes=(("service.name", "shop"), ("process.pid", 4242)))

HTTP = Span(
    trace_id=bytes(range(16)),
    span_id=bytes(range(8)),
    parent_id=b"",
    flags=0x101,
    trace_state="",
    name="GET /orders/{id}",
    kind=Kind.SERVER,
    start_ns=1_763_000_000_000_000_000,
    end_ns=1_763_000_000_001_240_000,
    attributes=(
        ("http.request.method", "GET"),
        ("url.path", "/orders/17"),
        ("server.port", 8080),
        ("http.response.status_code", 200),
    ),
    status=Status.UNSET,
    resource=SHOP,
)


def made(count: int, *, begin: int = 0, **changes: Any) -> list[Span]:
    """So many spans, the number of each in its span id."""
    return [replace(HTTP, span_id=number.to_bytes(8, "big"), **changes) for number in range(begin, begin + count)]


def numbers(request: ExportTraceServiceRequest) -> list[int]:
    """The numbers of the spans in a request, in their order."""
    return [int.from_bytes(span.span_id, "big") for span in wire_spans(request)]


def wire_spans(request: ExportTraceServiceRequest) -> list[WireSpan]:
    """Every span of a request."""
    return [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]


texts = st.text(max_size=12) | st.sampled_from(("", "\0", "é", "日本", "a" * 117, "a" * 118, "a" * 126, "a" * 5000))
# JSON knows one NaN only.
floats = st.floats(allow_nan=False) | st.just(math.nan)
int64s = st.integers(-(1 << 63), (1 << 63) - 1)

_values: dict[str, st.SearchStrategy[AttributeValue]] = {
    "text": texts,
    "int": int64s | st.sampled_from((0, 1, 127, 128, 16383, 16384, 2097151, 2097152, (1 << 63) - 1, -(1 << 63))),
    "float": floats,
    "bool": st.booleans(),
    "list": st.lists(texts, max_size=4).map(tuple),
}
"""Values by the beginning of their key, as one key has values of one type."""


def _attributes(
    values: dict[str, st.SearchStrategy[Any]], begin: str = ""
) -> st.SearchStrategy[tuple[tuple[str, AttributeValue], ...]]:
    pair = st.sampled_from(sorted(values)).flatmap(
        lambda kind: st.tuples(texts.map(lambda rest: f"{begin}{kind}.{rest}"), values[kind])
    )
    return st.lists(pair, max_size=6, unique_by=lambda pair: pair[0]).map(tuple)


attributes = _attributes(_values)
shared = _attributes(_values, "shared.").map(AttributeSet)
resources = st.lists(attributes, min_size=1, max_size=3).map(
    lambda all_of: [Resource((("service.name", str(number)), *some)) for number, some in enumerate(all_of)]
)
trace_states = st.sampled_from(("", "a=1", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"))


def spans_of(resource: Resource) -> st.SearchStrategy[Span]:
    """Any span that the pipeline may make."""
    return st.builds(
        Span,
        # All-zero ids are not valid, and the SDK's classes refuse them.
        trace_id=st.binary(min_size=16, max_size=16).filter(any),
        span_id=st.binary(min_size=8, max_size=8).filter(any),
        parent_id=st.just(b"") | st.binary(min_size=8, max_size=8).filter(any),
        flags=st.sampled_from((0, 1, 0x100, 0x101, 0x300, 0x3FF, 0xFFFF_FFFF)),
        trace_state=trace_states,
        name=texts,
        kind=st.sampled_from(Kind),
        # A time of 0 is written out by our encoder and left out by others: the same message in other bytes.
        start_ns=st.integers(1, (1 << 64) - 1),
        end_ns=st.integers(1, (1 << 64) - 1),
        attributes=attributes,
        status=st.sampled_from(Status),
        resource=st.just(resource),
        shared=st.just(NOTHING_SHARED) | shared,
    )


flushes = resources.flatmap(lambda all_of: st.lists(st.sampled_from(all_of).flatmap(spans_of), max_size=5))
"""What the pipeline hands over at once: spans of a few resources, mixed."""

_garbage_text = st.text(st.characters(), max_size=8)
"""With lone surrogates, NULs and everything else."""
_garbage_values: dict[str, st.SearchStrategy[AttributeValue]] = {
    "text": _garbage_text,
    "int": st.integers(),
    "float": floats,
    "list": st.lists(_garbage_text, max_size=3).map(tuple),
}
garbage_attributes = _attributes(_garbage_values)
garbage = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    parent_id=st.just(b"") | st.binary(min_size=8, max_size=8),
    flags=st.integers(),
    trace_state=_garbage_text,
    name=_garbage_text,
    kind=st.sampled_from(Kind),
    start_ns=st.integers(),
    end_ns=st.integers(),
    attributes=garbage_attributes,
    status=st.sampled_from(Status),
    resource=garbage_attributes.map(Resource),
    shared=garbage_attributes.map(AttributeSet),
)
"""The worst that strangers can make of a span."""


def official(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """What OpenTelemetry's own encoder makes of these spans; the flags are set afterwards, as it knows only some."""
    sdk_resources = {id(span.resource): SdkResource(dict(span.resource.attributes)) for span in spans}
    request = encode_spans([_readable(span, sdk_resources[id(span.resource)]) for span in spans])
    flags = [span.flags for one in sdk_resources for span in spans if id(span.resource) == one]
    for wire, its_flags in zip(wire_spans(request), flags, strict=True):
        wire.flags = its_flags
    return request


def _readable(span: Span, resource: SdkResource) -> ReadableSpan:
    trace_id = int.from_bytes(span.trace_id, "big")
    entries = [tuple(entry.split("=")) for entry in span.trace_state.split(",") if entry]
    context = SpanContext(
        trace_id,
        int.from_bytes(span.span_id, "big"),
        is_remote=False,
        trace_flags=TraceFlags(span.flags & 0xFF),
        trace_state=TraceState([(entry[0], entry[1]) for entry in entries]),
    )
    parent = SpanContext(trace_id, int.from_bytes(span.parent_id, "big"), is_remote=True) if span.parent_id else None
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=parent,
        resource=resource,
        attributes=dict(span.attributes + span.shared.attributes),
        kind=SpanKind[span.kind.name],
        status=SdkStatus(StatusCode(int(span.status))),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(SCOPE_NAME, VERSION),
    )
