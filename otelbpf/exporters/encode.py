"""Spans as OTLP protobuf: an `ExportTraceServiceRequest` equal to the official encoder's, at a tenth of its price.

Field numbers are those of opentelemetry-proto (common.proto, resource.proto, trace.proto); fields are written in the
order of their numbers, as every protobuf library does, so that the same span is the same bytes. Encoding cannot fail:
lone surrogates become U+FFFD, integers beyond 64 bits become their decimal text, times outside of 64 bits the nearest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from otelbpf.exporters.cache import NameCache, PairCache
from otelbpf.exporters.group import Group, by_resource, merged
from otelbpf.exporters.protobuf import FIXED32, FIXED64, LENGTH, VARINT, delimited, prefixes, tag, text, varint
from otelbpf.exporters.text import utf8
from otelbpf.tracing.span import SCOPE_NAME, AttributeValue, Kind, Resource, Span, Status

_CACHED_PAIRS: Final = 8192
_CACHED_NAMES: Final = 2048

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_UINT64_MAX: Final = (1 << 64) - 1

# Span: trace_id = 1, span_id = 2, trace_state = 3, parent_span_id = 4, name = 5, kind = 6, start_time_unix_nano = 7,
# end_time_unix_nano = 8, attributes = 9, status = 15, flags = 16
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_PARENT_ID: Final = b"\x22\x08"
_ROOT_IDS: Final = struct.Struct("<2s16s2s8s").pack
_CHILD_IDS: Final = struct.Struct("<2s16s2s8s2s8s").pack
_TIMES: Final = struct.Struct("<BQBQ").pack
_START: Final = 7 << 3 | FIXED64
_END: Final = 8 << 3 | FIXED64
_FLAGS: Final = tag(16, FIXED32)

_SPAN_PREFIX: Final = prefixes(2, 4096)
"""ScopeSpans.spans = 2, by the span's length"""
_ATTRIBUTE_PREFIX: Final = prefixes(9, 512)
"""Span.attributes = 9, by the pair's length"""


def encode_value(value: AttributeValue) -> bytes:
    """An AnyValue: string_value = 1, bool_value = 2, int_value = 3, double_value = 4, array_value = 5. It is a oneof,
    so that empty strings and zeros are written."""
    if isinstance(value, str):
        return delimited(1, utf8(value))
    if isinstance(value, bool):
        return tag(2, VARINT) + varint(value)
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return tag(3, VARINT) + varint(value)
        return delimited(1, b"%d" % value)
    if isinstance(value, float):
        return tag(4, FIXED64) + struct.pack("<d", value)
    return delimited(5, b"".join([delimited(1, encode_value(item)) for item in value]))


def encode_pair(key: str, value: AttributeValue) -> bytes:
    """A KeyValue: key = 1, value = 2"""
    return text(1, key) + delimited(2, encode_value(value))


def encode_resource(resource: Resource) -> bytes:
    """ResourceSpans.resource = 1, with Resource.attributes = 1"""
    return delimited(1, b"".join([delimited(1, encode_pair(key, value)) for key, value in resource.attributes]))


def _key(key: str) -> bytes:
    """A KeyValue up to its value's length; nothing when it is too long for the short way below."""
    head = text(1, key) + tag(2, LENGTH)
    return head if len(head) < 64 else b""


_keys: Final = NameCache(_key, limit=1024)


def _attribute(key: str, value: AttributeValue) -> bytes:
    """Span.attributes = 9"""
    # Paths, times and sizes of a busy host are new again and again, so short texts and non-negative integers are
    # written out: all their lengths are one byte each.
    head = _keys[key]
    if head:
        if type(value) is str:
            content = utf8(value)
            size = len(content)
            if size < 60:
                return b"J%c%b%c\n%c%b" % (len(head) + size + 3, head, size + 2, size, content)
        elif type(value) is int and 0 <= value <= _INT64_MAX:
            content = varint(value)
            size = len(content)
            return b"J%c%b%c\x18%b" % (len(head) + size + 2, head, size + 1, content)
    pair = encode_pair(key, value)
    if len(pair) < len(_ATTRIBUTE_PREFIX):
        return _ATTRIBUTE_PREFIX[len(pair)] + pair
    return delimited(9, pair)


def _name_encoder(kind: Kind) -> Callable[[str], bytes]:
    end = tag(6, VARINT) + varint(kind)
    return lambda name: text(5, name) + end


def _clamped_times(start_ns: int, end_ns: int) -> bytes:
    return _TIMES(_START, min(max(start_ns, 0), _UINT64_MAX), _END, min(max(end_ns, 0), _UINT64_MAX))


class _Tails(dict[int, bytes]):
    """Status and flags by flags, for one status code. An unset status is an empty message, as the official encoder
    writes it."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = delimited(15, tag(3, VARINT) + varint(status) if status else b"")

    def __missing__(self, flags: int) -> bytes:
        flags &= 0xFFFF_FFFF
        # proto3 leaves out a fixed32 of zero.
        tail = self._status + (_FLAGS + flags.to_bytes(4, "little") if flags else b"")
        if flags <= 0x3FF:
            self[flags] = tail
        return tail


def _resource(resource: Resource) -> bytes:
    if not resource.protobuf:
        resource.protobuf = encode_resource(resource)
    return resource.protobuf


class ProtobufEncoder:
    """Spans as OTLP protobuf; `version` is the instrumentation scope's."""

    def __init__(self, *, version: str) -> None:
        self._pairs = PairCache(_attribute, limit=_CACHED_PAIRS)
        # Lists and not dicts over the enums: the hash of an enum member is a call into Python.
        self._names = [NameCache(_name_encoder(kind), limit=_CACHED_NAMES) for kind in (Kind.INTERNAL, *Kind)]
        self._tails = [_Tails(status) for status in Status]
        self._scope = delimited(1, text(1, SCOPE_NAME) + text(2, version))

    def encode(self, spans: Sequence[Span]) -> list[Group]:
        """Every span as a `ScopeSpans.spans` field, grouped by resource."""
        groups = []
        pair, names, tails = self._pairs.__getitem__, self._names, self._tails
        for resource, members in by_resource(spans):
            bodies = []
            for span in members:
                if span.trace_state:
                    ids = _ROOT_IDS(_TRACE_ID, span.trace_id, _SPAN_ID, span.span_id) + text(3, span.trace_state)
                    if span.parent_id:
                        ids += _PARENT_ID + span.parent_id
                elif span.parent_id:
                    ids = _CHILD_IDS(_TRACE_ID, span.trace_id, _SPAN_ID, span.span_id, _PARENT_ID, span.parent_id)
                else:
                    ids = _ROOT_IDS(_TRACE_ID, span.trace_id, _SPAN_ID, span.span_id)
                try:
                    times = _TIMES(_START, span.start_ns, _END, span.end_ns)
                except struct.error:
                    times = _clamped_times(span.start_ns, span.end_ns)
                name, tail = names[span.kind][span.name], tails[span.status][span.flags]
                shared = span.shared
                if not shared.protobuf:
                    shared.protobuf = b"".join(map(pair, shared.attributes))
                body = b"".join((ids, name, times, *map(pair, span.attributes), shared.protobuf, tail))
                length = len(body)
                bodies.append(_SPAN_PREFIX[length] + body if length < len(_SPAN_PREFIX) else delimited(2, body))
            groups.append(Group(_resource(resource), bodies, sum(map(len, bodies))))
        return groups

    def assemble(self, groups: Sequence[Group]) -> bytes:
        """An ExportTraceServiceRequest (resource_spans = 1) of ResourceSpans (scope_spans = 2) of ScopeSpans."""
        out: list[bytes] = []
        for resource, members in merged(groups).items():
            size_bytes = len(self._scope) + sum([group.size_bytes for group in members])
            scope_spans = tag(2, LENGTH) + varint(size_bytes)
            out += (tag(1, LENGTH), varint(len(resource) + len(scope_spans) + size_bytes), resource, scope_spans)
            out.append(self._scope)
            for group in members:
                out += group.spans
        return b"".join(out)
