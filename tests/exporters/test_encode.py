"""Our OTLP bytes are the official encoder's, and no span can stop them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otelbpf.exporters.encode import ProtobufEncoder
from otelbpf.exporters.json import JsonEncoder
from otelbpf.exporters.protobuf import varint
from otelbpf.tracing.span import AttributeSet, Resource, Span
from otelbpf.values import replace
from tests.exporters.sample import HTTP, SHOP, VERSION, flushes, garbage, made, numbers, official, wire_spans


def _encode(spans: Sequence[Span], encoder: ProtobufEncoder | None = None) -> bytes:
    encoder = encoder or ProtobufEncoder(version=VERSION)
    return encoder.assemble(encoder.encode(spans))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
@example(127)
@example(128)
@example(16383)
@example(16384)
@example(2097151)
@example(2097152)
def test_a_varint_is_the_library_s(number: int) -> None:
    assert b"\x18" + varint(number) == AnyValue(int_value=number).SerializeToString()


@given(flushes)
def test_messages_and_bytes_equal_the_official_encoder_s(spans: list[Span]) -> None:
    """Resource by resource, span by span, field by field, and in canonical order."""
    expected = official(spans)

    encoded = _encode(spans)

    assert encoded == expected.SerializeToString(deterministic=True)
    assert ExportTraceServiceRequest.FromString(encoded).SerializeToString() == expected.SerializeToString()


@given(flushes, flushes)
def test_a_warm_encoder_writes_the_same(first: list[Span], second: list[Span]) -> None:
    """What the caches remember of one flush is right for the next."""
    encoder = ProtobufEncoder(version=VERSION)
    _encode(first, encoder)
    _encode(second, encoder)

    assert _encode(first, encoder) == official(first).SerializeToString(deterministic=True)


@given(st.lists(garbage, min_size=1, max_size=2))
def test_nothing_in_a_span_can_stop_the_encoder(spans: list[Span]) -> None:
    """Whatever is in it, the receiver can parse it, strings valid UTF-8 throughout, and every span arrives."""
    request = ExportTraceServiceRequest.FromString(_encode(spans))

    sent = {span.span_id for span in spans}
    assert {wire.span_id for wire in wire_spans(request)} == sent
    assert len(wire_spans(request)) == len(spans)


@pytest.mark.parametrize(
    ("text", "arrives"),
    [("a\udc80b", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600"), ("\0", "\0"), ("", ""), ("\udfff", "\ufffd")],
)
def test_text_without_utf8_arrives_marked(text: str, arrives: str) -> None:
    span = replace(HTTP, name=text, attributes=(("key", text), ("list", (text,))))

    wire = wire_spans(ExportTraceServiceRequest.FromString(_encode([span])))[0]

    assert wire.name == arrives
    assert wire.attributes[0].value.string_value == arrives
    assert wire.attributes[1].value.array_value.values[0].string_value == arrives


def test_numbers_beyond_64_bits_keep_their_digits_and_times_their_side() -> None:
    span = replace(HTTP, attributes=(("big", 1 << 63), ("small", -(1 << 63) - 1)), start_ns=-5, end_ns=1 << 70)

    wire = wire_spans(ExportTraceServiceRequest.FromString(_encode([span])))[0]

    assert [pair.value.string_value for pair in wire.attributes] == ["9223372036854775808", "-9223372036854775809"]
    assert (wire.start_time_unix_nano, wire.end_time_unix_nano) == (0, (1 << 64) - 1)


def test_a_time_of_zero_is_the_same_message() -> None:
    span = replace(HTTP, start_ns=0, end_ns=0)

    assert ExportTraceServiceRequest.FromString(_encode([span])) == official([span])


def test_an_empty_key_is_left_out_as_proto3_does() -> None:
    span = replace(HTTP, attributes=(("", "value"), ("key", "")))

    assert _encode([span]) == official([span]).SerializeToString(deterministic=True)


def test_many_spans_of_one_resource_stay_in_order_in_one_message() -> None:
    spans = made(1301)

    groups = ProtobufEncoder(version=VERSION).encode(spans)
    request = ExportTraceServiceRequest.FromString(_encode(spans))

    assert [len(group.spans) for group in groups] == [512, 512, 277]
    assert [group.size_bytes for group in groups] == [sum(map(len, group.spans)) for group in groups]
    assert len(request.resource_spans) == 1
    assert numbers(request) == list(range(1301))


def test_mixed_resources_are_grouped_and_equal_ones_joined() -> None:
    """Two processes that say the same of themselves are one resource to the backend; another stays apart."""
    twin, other = Resource(SHOP.attributes), Resource((("service.name", "bank"),))
    spans = [replace(span, resource=(SHOP, other, twin)[number % 3]) for number, span in enumerate(made(7))]

    request = ExportTraceServiceRequest.FromString(_encode(spans))

    services = [one.resource.attributes[0].value.string_value for one in request.resource_spans]
    assert services == ["shop", "bank"]
    assert [len(one.scope_spans[0].spans) for one in request.resource_spans] == [5, 2]


def test_what_spans_share_is_encoded_once_for_each_format() -> None:
    """And kept with the object, so that it goes with it."""
    shared = AttributeSet((("url.scheme", "http"),))
    resource = Resource((("service.name", "shop"),))
    spans = made(23, resource=resource, shared=shared)
    for encoder in (ProtobufEncoder(version=VERSION), JsonEncoder(version=VERSION)):
        encoder.encode(spans)

    assert shared.protobuf == bytes.fromhex("4a140a0a75726c2e736368656d6512060a0468747470")
    assert shared.json == b'{"key":"url.scheme","value":{"stringValue":"http"}}'
    assert resource.protobuf
    assert resource.json


def test_thousands_of_resources_and_names_are_still_right() -> None:
    """More than the caches hold."""
    encoder = ProtobufEncoder(version=VERSION)
    spans = [
        replace(span, resource=Resource((("service.name", f"s{number}"),)), name=f"GET /{number}")
        for number, span in enumerate(made(3001))
    ]

    for _ in range(2):
        assert _encode(spans, encoder) == official(spans).SerializeToString(deterministic=True)
