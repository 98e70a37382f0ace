"""Spans as OTLP/JSON, the format of the OTLP file exporter: one `ExportTraceServiceRequest` a line.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding and …/specs/otel/protocol/file-exporter/: field names
in lowerCamelCase, trace and span ids as lower-case hex, enums as integers, 64-bit integers as strings, doubles that
JSON cannot write as "NaN", "Infinity" and "-Infinity". Fields at their default are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec.json

from otelbpf.exporters.cache import NameCache, PairCache
from otelbpf.exporters.group import Group, by_resource, merged
from otelbpf.exporters.text import clean
from otelbpf.tracing.span import SCOPE_NAME, AttributeValue, Kind, Resource, Span, Status

_CACHED_PAIRS: Final = 8192
_CACHED_NAMES: Final = 2048

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_UINT64_MAX: Final = (1 << 64) - 1

_encode = msgspec.json.Encoder().encode


def encode_text(value: str) -> bytes:
    """A JSON string, with lone surrogates as U+FFFD."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(clean(value))


def encode_value(value: AttributeValue) -> bytes:
    """An AnyValue."""
    if isinstance(value, str):
        return b'{"stringValue":%b}' % encode_text(value)
    if isinstance(value, bool):
        return b'{"boolValue":true}' if value else b'{"boolValue":false}'
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return b'{"intValue":"%d"}' % value
        return b'{"stringValue":"%d"}' % value
    if isinstance(value, float):
        if math.isfinite(value):
            return b'{"doubleValue":%b}' % _encode(value)
        special = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return b'{"doubleValue":"%b"}' % special.encode()
    return b'{"arrayValue":{"values":[%b]}}' % b",".join([encode_value(item) for item in value])


def encode_pair(key: str, value: AttributeValue) -> bytes:
    """A KeyValue."""
    return b'{"key":%b,"value":%b}' % (encode_text(key), encode_value(value))


def encode_resource(resource: Resource) -> bytes:
    """A Resource."""
    return b'{"attributes":[%b]}' % b",".join([encode_pair(key, value) for key, value in resource.attributes])


def _name_encoder(kind: Kind) -> Callable[[str], bytes]:
    end = b',"kind":%d,"startTimeUnixNano":"' % kind
    return lambda name: b'","name":%b' % encode_text(name) + end


def _time(time_ns: int) -> int:
    return min(max(time_ns, 0), _UINT64_MAX)


def _resource(resource: Resource) -> bytes:
    if not resource.json:
        resource.json = encode_resource(resource)
    return resource.json


class JsonEncoder:
    """Spans as OTLP/JSON; `version` is the instrumentation scope's."""

    def __init__(self, *, version: str, line_end: bytes = b"\n") -> None:
        self._pairs = PairCache(encode_pair, limit=_CACHED_PAIRS)
        # Lists and not dicts over the enums: the hash of an enum member is a call into Python.
        self._names = [NameCache(_name_encoder(kind), limit=_CACHED_NAMES) for kind in (Kind.INTERNAL, *Kind)]
        self._status = [b',"status":{"code":%d}' % status if status else b',"status":{}' for status in Status]
        scope = b'{"name":%b,"version":%b}' % (encode_text(SCOPE_NAME), encode_text(version))
        self._before_spans = b',"scopeSpans":[{"scope":%b,"spans":[' % scope
        self._end = b"]}" + line_end

    def encode(self, spans: Sequence[Span]) -> list[Group]:
        """Every span as a JSON object, grouped by resource."""
        groups = []
        pair, names, status = self._pairs.__getitem__, self._names, self._status
        for resource, members in by_resource(spans):
            bodies = []
            for span in members:
                ids = f'{{"traceId":"{span.trace_id.hex()}","spanId":"{span.span_id.hex()}'
                if span.parent_id:
                    ids += f'","parentSpanId":"{span.parent_id.hex()}'
                body = b'%b%b%d","endTimeUnixNano":"%d","attributes":[%b]%b' % (
                    ids.encode(),
                    names[span.kind][span.name],
                    _time(span.start_ns),
                    _time(span.end_ns),
                    b",".join([*map(pair, span.attributes), *self._shared_of(span)]),
                    status[span.status],
                )
                if span.trace_state:
                    body += b',"traceState":' + encode_text(span.trace_state)
                bodies.append(b'%b,"flags":%d}' % (body, span.flags & 0xFFFF_FFFF))
            groups.append(Group(_resource(resource), bodies, sum(map(len, bodies))))
        return groups

    def _shared_of(self, span: Span) -> tuple[bytes, ...]:
        shared = span.shared
        if not shared.attributes:
            return ()
        if not shared.json:
            shared.json = b",".join(map(self._pairs.__getitem__, shared.attributes))
        return (shared.json,)

    def assemble(self, groups: Sequence[Group]) -> bytes:
        """One line."""
        resource_spans = []
        for resource, members in merged(groups).items():
            spans = b",".join([span for group in members for span in group.spans])
            resource_spans.append(b'{"resource":%b%b%b]}]}' % (resource, self._before_spans, spans))
        return b'{"resourceSpans":[%b%b' % (b",".join(resource_spans), self._end)
