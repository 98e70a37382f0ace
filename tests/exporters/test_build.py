"""From words and variables to exporters; every mistake is one line that names the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from otelbpf.errors import ConfigError, ExportError
from otelbpf.exporters.build import build_exporters, choose
from otelbpf.exporters.otlp import read_settings
from otelbpf.exporters.queue import Limits, QueuedExporter
from otelbpf.telemetry.ledger import Ledger
from tests.exporters.sample import VERSION, made

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("specs", "environment", "chosen"),
    [
        ([], {}, ["console"]),
        ([], {BASE: ""}, ["console"]),
        ([], {BASE: "http://jaeger:4317"}, ["otlp"]),
        ([], {TRACES: "http://jaeger:4317"}, ["otlp"]),
        ([], {BASE: "http://jaeger:4317", "OTEL_TRACES_EXPORTER": "console"}, ["console"]),
        ([], {"OTEL_TRACES_EXPORTER": " otlp , console,"}, ["otlp", "console"]),
        ([], {"OTEL_TRACES_EXPORTER": "none"}, []),
        (["none"], {BASE: "http://jaeger:4317"}, []),
        (["file:a", "file:b"], {"OTEL_TRACES_EXPORTER": "otlp"}, ["file:a", "file:b"]),
        (["otlp", "file:-"], {}, ["otlp", "file:-"]),
    ],
)
def test_who_is_meant(specs: list[str], environment: dict[str, str], chosen: list[str]) -> None:
    assert choose(specs, environment) == chosen


@pytest.mark.parametrize(
    ("specs", "environment", "words"),
    [
        (["oltp"], {}, "--export: unknown exporter 'oltp'; did you mean otlp?"),
        (["Console"], {}, "--export: unknown exporter 'Console'; did you mean console?"),
        (["zzz"], {}, "--export: unknown exporter 'zzz'; known: otlp, console, none, file:PATH, file:-"),
        ([], {"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: unknown exporter 'zipkin'; known: otlp"),
        (["file:"], {}, "--export: 'file:' names no file; write file:spans.jsonl"),
        (["file"], {}, "--export: 'file' names no file; write file:spans.jsonl"),
        (["otlp", "otlp"], {}, "--export: otlp is given twice; give it once"),
        (["otlp", "none"], {}, "--export: none cannot go with others; leave it out"),
        (["console", "file:-"], {}, "--export: console and file:- both want standard output; choose one"),
    ],
)
def test_who_cannot_be_meant(specs: list[str], environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(specs, environment)

    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("environment", "protocol", "destination"),
    [
        ({}, "http/protobuf", "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "http://localhost:4317"),
        ({BASE: "http://jaeger:4317"}, "grpc", "http://jaeger:4317"),
        ({BASE: "https://jaeger:4317/"}, "grpc", "https://jaeger:4317"),
        ({BASE: "http://[::1]:4317"}, "grpc", "http://[::1]:4317"),
        ({BASE: "jaeger:4317"}, "grpc", "jaeger:4317"),
        ({BASE: "http://jaeger:4318"}, "http/protobuf", "http://jaeger:4318/v1/traces"),
        ({BASE: "https://jaeger/base/"}, "http/protobuf", "https://jaeger/base/v1/traces"),
        ({BASE: "http://u:secret@jaeger:4318"}, "http/protobuf", "http://jaeger:4318/v1/traces"),
        ({TRACES: "http://jaeger:4318/in?key=secret"}, "http/protobuf", "http://jaeger:4318/in"),
        ({BASE: "http://a:4317", TRACES: "http://b:4318/v1/traces"}, "http/protobuf", "http://b:4318/v1/traces"),
        (
            {BASE: "http://jaeger:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http://jaeger:4317/v1/traces",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "HTTP/JSON"},
            "http/json",
            "http://localhost:4318/v1/traces",
        ),
        (
            {BASE: "unix:///run/otel.sock", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "grpc",
            "unix:///run/otel.sock",
        ),
    ],
)
def test_protocol_and_destination(environment: dict[str, str], protocol: str, destination: str) -> None:
    settings = read_settings(environment)

    assert (settings.protocol, settings.destination) == (protocol, destination)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'http'; did you mean http/json?"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "gprc"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'gprc'; did you mean grpc",
        ),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "OTEL_EXPORTER_OTLP_COMPRESSION is 'zstd'"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT is '10s'; give a number of milliseconds"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_TIMEOUT is '0'"),
        ({BASE: "jaeger:4318"}, f"{BASE} is 'jaeger:4318'; write it like http://jaeger:4317"),
        (
            {BASE: "http://u:secret@jaeger:4317"},
            f"{BASE} has a user in it, which gRPC does not send; use OTEL_EXPORTER_OTLP_HEADERS",
        ),
        ({BASE: "ftp://jaeger"}, f"{BASE} is 'ftp://jaeger'; write it like"),
        ({BASE: "http://"}, f"{BASE} is 'http://'; write it like"),
        ({BASE: "http://jaeger:99999"}, f"{BASE} is 'http://jaeger:99999': Port out of range"),
        ({BASE: "http://[::1"}, f"{BASE} is 'http://[::1': Invalid IPv6 URL"),
        (
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"},
            "OTEL_EXPORTER_OTLP_CERTIFICATE: cannot read '/nowhere/ca.pem': No such file or directory",
        ),
        ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__}, "OTEL_EXPORTER_OTLP_CLIENT_KEY stands alone"),
        (
            {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": __file__, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE stands alone",
        ),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key"}, "OTEL_EXPORTER_OTLP_HEADERS: entry 1 is not name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=1,, b c=2"}, "OTEL_EXPORTER_OTLP_HEADERS: entry 3 is not name=value"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": 'k="a"'}, "OTEL_EXPORTER_OTLP_HEADERS: the value of 'k' cannot be sent"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "k=a%0Ab"}, "OTEL_EXPORTER_OTLP_HEADERS: the value of 'k' cannot be sent"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "5s"}, "OTEL_BSP_SCHEDULE_DELAY is '5s'; give a whole number of milliseconds"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE is '0'; give a whole number, 1 or more"),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "11"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is more than OTEL_BSP_MAX_QUEUE_SIZE",
        ),
    ],
)
def test_settings_that_cannot_be(environment: dict[str, str], words: str) -> None:
    ledger = Ledger()
    with pytest.raises(ConfigError) as caught:
        build_exporters(["otlp"], environment=environment, ledger=ledger, version=VERSION)

    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert ledger.exports == {}


def _limits(specs: list[str], environment: Mapping[str, str], **given: Any) -> Limits:
    exporters = build_exporters(
        specs, environment=environment, ledger=Ledger(), version=VERSION, queue_bytes=1 << 20, **given
    )
    exporter = exporters[0]
    assert isinstance(exporter, QueuedExporter)
    exporter.shutdown(0.0)
    return exporter._limits


def test_the_batch_variables() -> None:
    asked = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
        "OTEL_BSP_SCHEDULE_DELAY": "0",
        "OTEL_BSP_EXPORT_TIMEOUT": "3000",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "7000",
    }
    limits = _limits(["otlp"], asked)

    assert (limits.queue_bytes, limits.queue_spans, limits.batch_spans) == (1 << 20, 100, 10)
    assert (limits.delay_seconds, limits.attempt_seconds) == (0.0, 3.0)
    given = _limits(["otlp"], asked, queue_spans=99, batch_spans=23, delay_seconds=2.0, attempt_seconds=1.5)
    assert (given.queue_spans, given.batch_spans) == (99, 23)
    assert (given.delay_seconds, given.attempt_seconds) == (2.0, 1.5)
    assert _limits(["otlp"], asked, attempt_seconds=0.0).attempt_seconds == 7.0
    assert _limits(["otlp"], {**asked, "OTEL_BSP_EXPORT_TIMEOUT": "0"}).attempt_seconds == 7.0
    defaults = _limits(["otlp"], {})
    assert (defaults.queue_spans, defaults.batch_spans, defaults.delay_seconds, defaults.attempt_seconds) == (
        None,
        4096,
        1.0,
        10.0,
    )


def test_exporters_are_in_the_ledger_by_their_names(tmp_path: Path) -> None:
    ledger = Ledger()
    first, second = f"file:{tmp_path}/a.jsonl", f"file:{tmp_path}/b.jsonl"
    exporters = build_exporters([first, second], environment={}, ledger=ledger, version=VERSION)
    for exporter in exporters:
        exporter.export(made(23))
        exporter.shutdown(5)

    assert {name: (account.exported, account.balance()) for name, account in ledger.exports.items()} == {
        first: (23, 0),
        second: (23, 0),
    }
    assert [exporter.name for exporter in exporters] == [first, second]


@pytest.mark.parametrize("spec", ["console", "file:-"])
def test_standard_output_may_be_closed(spec: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(ExportError) as caught:
        build_exporters([spec], environment={}, ledger=Ledger(), version=VERSION, stdout_fd=writer)

    assert str(caught.value).startswith("standard output is closed; name an exporter that does not need it")


def test_one_that_cannot_start_ends_those_that_did(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ExportError) as caught:
        build_exporters(
            [f"file:{tmp_path}/a.jsonl", f"file:{tmp_path}/no/b.jsonl"],
            environment={},
            ledger=Ledger(),
            version=VERSION,
        )

    assert str(caught.value) == (
        f"cannot write spans to '{tmp_path}/no/b.jsonl': No such file or directory; "
        f"make its folder first: mkdir -p {tmp_path}/no"
    )
    assert len(os.listdir("/proc/self/fd")) == before


def test_transports_are_imported_only_when_used() -> None:
    """gRPC and requests cost tens of megabytes and a third of a second."""
    program = """
import os, sys
from otelbpf.exporters.build import build_exporters
from otelbpf.telemetry.ledger import Ledger
heavy = lambda: sorted({"grpc", "requests", "opentelemetry"} & set(sys.modules))
def build(specs, environment):
    for exporter in build_exporters(specs, environment=environment, ledger=Ledger(), version="1"):
        exporter.shutdown(1)
build(["console", "file:/dev/null"], {})
first = heavy()
build(["otlp"], {})
print(first, heavy())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "[] ['opentelemetry', 'requests']\n"
    assert done.stderr == ""
