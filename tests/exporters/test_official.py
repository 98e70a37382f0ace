"""What exporters/official.py leans on is there; whoever raises the library's version learns here what to look at."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

import pytest
from opentelemetry.exporter.otlp.common import http as common_http
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

from otelbpf.exporters.official import GrpcCarrier, HttpCarrier, TlsFiles
from otelbpf.exporters.otlp import TRACES

CHANGED = "opentelemetry-exporter-otlp changed beneath exporters/official.py: "


def test_the_grpc_exporter_s_private_parts() -> None:
    exporter = GrpcExporter(endpoint="http://127.0.0.1:1", headers=(("key", "value"),))

    assert hasattr(exporter, "_initialize_channel_and_stub"), CHANGED + "_initialize_channel_and_stub"
    assert hasattr(exporter, "_channel"), CHANGED + "_channel"
    assert getattr(exporter, "_headers", None) == (("key", "value"),), CHANGED + "_headers"
    channel = exporter._channel
    renew: Callable[[], None] = exporter._initialize_channel_and_stub
    renew()
    assert exporter._channel is not channel, CHANGED + "_initialize_channel_and_stub no longer replaces _channel"
    exporter.shutdown()


def test_the_http_exporter_s_private_parts() -> None:
    exporter = HttpExporter(endpoint="http://127.0.0.1:1")

    client = getattr(exporter, "_client", None)
    assert client is not None, CHANGED + "_client"
    assert list(inspect.signature(client._submit).parameters) == ["data", "timeout"], CHANGED + "_client._submit"
    assert list(inspect.signature(client._compress).parameters) == ["serialized_data"], CHANGED + "_client._compress"
    parameters = inspect.signature(common_http._extract_retry_after).parameters
    assert list(parameters) == ["result"], CHANGED + "_extract_retry_after"
    assert "session" in inspect.signature(HttpExporter).parameters, CHANGED + "session"


def test_the_given_environment_holds_and_the_process_s_own_is_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://from-the-process:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "from=process")
    before = dict(os.environ)
    given = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": " http://given:4318\n",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "",
        "PATH": "/nowhere",
    }

    http = HttpCarrier(given, content_type="application/x-protobuf")
    grpc = GrpcCarrier(given, compression="none", tls=TlsFiles(), method=TRACES)

    assert http._exporter._endpoint == "http://given:4318/v1/traces"
    assert (grpc._exporter._endpoint, grpc._exporter._headers) == ("given:4318", ())
    assert dict(os.environ) == before
    http.close()
    grpc.close()
    grpc.reconnect()  # a late failure on another thread does not open it again
    assert grpc._closed
