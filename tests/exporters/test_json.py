"""OTLP/JSON says what the protobuf says, in the spelling of the file exporter's specification."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbpf.exporters.encode import ProtobufEncoder
from otelbpf.exporters.json import JsonEncoder
from otelbpf.tracing.span import Span
from otelbpf.values import replace
from tests.exporters.sample import HTTP, VERSION, flushes, garbage, made


def _line(spans: Sequence[Span]) -> bytes:
    encoder = JsonEncoder(version=VERSION)
    return encoder.assemble(encoder.encode(spans))


def _parsed(line: bytes) -> ExportTraceServiceRequest:
    """By protobuf's own JSON reader, which wants ids in base64 where OTLP/JSON has them in hex."""
    document = json.loads(line)
    for one in document["resourceSpans"]:
        for span in one["scopeSpans"][0]["spans"]:
            for field in ("traceId", "spanId", "parentSpanId"):
                if field in span:
                    span[field] = base64.b64encode(bytes.fromhex(span[field])).decode()
    return ParseDict(document, ExportTraceServiceRequest())


def _protobuf(spans: Sequence[Span]) -> bytes:
    encoder = ProtobufEncoder(version=VERSION)
    message = ExportTraceServiceRequest.FromString(encoder.assemble(encoder.encode(spans)))
    return message.SerializeToString(deterministic=True)


@given(flushes)
def test_json_and_protobuf_are_the_same_message(spans: list[Span]) -> None:
    assert _parsed(_line(spans)).SerializeToString(deterministic=True) == _protobuf(spans)


@given(st.lists(garbage, min_size=1, max_size=2))
def test_nothing_in_a_span_can_stop_it_or_break_the_line(spans: list[Span]) -> None:
    line = _line(spans)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert _parsed(line).SerializeToString(deterministic=True) == _protobuf(spans)


def test_the_spelling() -> None:
    span = replace(
        HTTP,
        trace_id=bytes.fromhex("5b8efff798038103d269b633813fc60c"),
        parent_id=bytes.fromhex("eee19b7ec3c1b173"),
        trace_state="a=1",
    )

    document: Any = json.loads(_line([span]))

    assert document == {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": "shop"}},
                        {"key": "process.pid", "value": {"intValue": "4242"}},
                    ]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "otelbpf", "version": "1.2.3"},
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "0001020304050607",
                                "parentSpanId": "eee19b7ec3c1b173",
                                "name": "GET /orders/{id}",
                                "kind": 2,
                                "startTimeUnixNano": "1763000000000000000",
                                "endTimeUnixNano": "1763000000001240000",
                                "attributes": [
                                    {"key": "http.request.method", "value": {"stringValue": "GET"}},
                                    {"key": "url.path", "value": {"stringValue": "/orders/17"}},
                                    {"key": "server.port", "value": {"intValue": "8080"}},
                                    {"key": "http.response.status_code", "value": {"intValue": "200"}},
                                ],
                                "status": {},
                                "traceState": "a=1",
                                "flags": 257,
                            }
                        ],
                    }
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (float("nan"), '{"doubleValue":"NaN"}'),
        (float("inf"), '{"doubleValue":"Infinity"}'),
        (float("-inf"), '{"doubleValue":"-Infinity"}'),
        (-0.5, '{"doubleValue":-0.5}'),
        (-(1 << 63), '{"intValue":"-9223372036854775808"}'),
        (True, '{"boolValue":true}'),
        (("a", ""), '{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":""}]}}'),
    ],
)
def test_the_spelling_of_values(value: Any, spelling: str) -> None:
    line = _line([replace(HTTP, attributes=(("key", value),))])

    assert b'"attributes":[{"key":"key","value":%b}]' % spelling.encode() in line


def test_a_batch_of_many_groups_is_one_line() -> None:
    encoder = JsonEncoder(version=VERSION)
    groups = [*encoder.encode(made(700)), *encoder.encode(made(23, begin=700))]

    document: Any = json.loads(encoder.assemble(groups))

    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [int(span["spanId"], 16) for span in spans] == list(range(723))
