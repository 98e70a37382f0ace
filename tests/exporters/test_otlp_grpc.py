"""OTLP over gRPC against a real server: what every answer does to the account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme

from otelbpf.exporters.build import build_exporters
from otelbpf.exporters.queue import QueuedExporter
from otelbpf.telemetry.ledger import Ledger, Lost
from tests.exporters.collector import GrpcAnswer, grpc_collector
from tests.exporters.conftest import Words, await_failure
from tests.exporters.sample import VERSION, made


@contextmanager
def _exporter(endpoint: str, end_seconds: float = 5.0, **variables: str) -> Iterator[QueuedExporter]:
    environment = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "0",
    }
    exporters = build_exporters(["otlp"], environment=environment | variables, ledger=Ledger(), version=VERSION)
    exporter = exporters[0]
    assert isinstance(exporter, QueuedExporter)
    try:
        yield exporter
    finally:
        exporter.shutdown(end_seconds)
        assert exporter.account.balance() == 0


def _columns(exporter: QueuedExporter) -> tuple[int, int, dict[Lost, int], int]:
    account = exporter.account
    return account.accepted, account.exported, dict(account.lost), account.queued


def test_spans_arrive_with_the_headers_that_are_configured() -> None:
    with (
        grpc_collector() as (port, seen),
        _exporter(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_HEADERS="Tenant=a%20b,key=1") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.kept == list(range(23))
        assert (seen.headers[0]["tenant"], seen.headers[0]["key"]) == ("a b", "1")
        assert _columns(exporter) == (23, 23, {}, 0)


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS"]
)
def test_passing_failures_are_tried_again(code: str, words: Words) -> None:
    with (
        grpc_collector(GrpcAnswer(code, "not now")) as (port, seen),
        _exporter(f"http://127.0.0.1:{port}") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.attempts == [list(range(23))] * 2
        assert _columns(exporter) == (23, 23, {}, 0)
        assert exporter.account.failures == 1
    assert words.events() == ["exporter.unavailable", "exporter.recovered"]
    assert words.lines()[0]["reason"] == f"{code}: not now"


@pytest.mark.parametrize(
    "code",
    ["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL", "RESOURCE_EXHAUSTED"],
)
def test_final_refusals_are_counted(code: str, words: Words) -> None:
    with grpc_collector(GrpcAnswer(code, "never")) as (port, seen), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)
        exporter.export(made(2, begin=23))
        exporter.flush(10)

        assert seen.kept == [23, 24]
        assert _columns(exporter) == (25, 2, {Lost.REJECTED: 23}, 0)
        assert exporter.account.failures == 0
    assert words.events() == ["exporter.rejected"]


def test_retry_info_says_when() -> None:
    answer = GrpcAnswer("RESOURCE_EXHAUSTED", "slow down", retry_delay_seconds=1.2)
    with grpc_collector(answer) as (port, seen), _exporter(f"http://127.0.0.1:{port}") as exporter:
        begin = time.monotonic()
        exporter.export(made(23))
        exporter.flush(10)

        assert 1.2 <= time.monotonic() - begin < 5
        assert len(seen.attempts) == 2
        assert _columns(exporter) == (23, 23, {}, 0)


def test_partial_success_is_counted(words: Words) -> None:
    answer = GrpcAnswer(rejected=7, message="clock skew")
    with grpc_collector(answer) as (port, _), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)

        assert _columns(exporter) == (23, 16, {Lost.REJECTED: 7}, 0)
    line = words.lines()[0]
    assert (line["event"], line["reason"], line["spans"], line["of"]) == (
        "exporter.partly_rejected",
        "clock skew",
        7,
        23,
    )


def test_a_success_in_a_foreign_tongue_is_a_success() -> None:
    with grpc_collector(GrpcAnswer(body=b"\xff\xff")) as (port, _), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)

        assert _columns(exporter) == (23, 23, {}, 0)


def test_a_message_beyond_the_receiver_s_limit_is_sent_in_parts(words: Words) -> None:
    with grpc_collector(largest_bytes=3000) as (port, seen), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(101))
        exporter.flush(10)

        assert sorted(seen.kept) == list(range(101))
        assert _columns(exporter) == (101, 101, {}, 0)
    assert words.events() == ["exporter.batch_too_large"]


def test_a_hanging_backend_is_given_up_and_tried_again() -> None:
    with (
        grpc_collector(GrpcAnswer(hangs=True)) as (port, seen),
        _exporter(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="200") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)
        seen.release.set()

        assert len(seen.attempts) == 2
        assert _columns(exporter) == (23, 23, {}, 0)
        assert exporter.account.failures == 1


def test_the_end_does_not_wait_for_a_hanging_backend() -> None:
    with grpc_collector(GrpcAnswer(hangs=True)) as (port, seen):
        with _exporter(f"http://127.0.0.1:{port}", end_seconds=0.2) as exporter:
            exporter.export(made(23))
            assert seen.arrived.acquire(timeout=10)
            begin = time.monotonic()
        assert time.monotonic() - begin < 5
        assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)
        exporter._thread.join(10)
        assert not exporter._thread.is_alive()
        assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)


def test_nobody_there(words: Words) -> None:
    with grpc_collector() as (port, _):
        pass
    with _exporter(f"http://127.0.0.1:{port}", end_seconds=0.0) as exporter:
        exporter.export(made(23))
        await_failure(exporter.account)
    assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)
    assert words.events() == ["exporter.unavailable", "exporter.undelivered"]


def test_a_backend_that_goes_and_returns_costs_nothing(words: Words) -> None:
    """At the same address, under load; each span once."""
    with grpc_collector() as (port, first), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)
    with _exporter(f"http://127.0.0.1:{port}") as exporter:
        for begin in range(0, 230, 23):
            exporter.export(made(23, begin=begin))
            time.sleep(0.05)
        with grpc_collector(port=port) as (_, second):
            exporter.flush(20)
            assert sorted(second.kept) == list(range(230))
        failures = exporter.account.failures
        exporter.export(made(7, begin=230))
        with grpc_collector(port=port) as (_, third):
            exporter.flush(20)
            assert third.kept == list(range(230, 237))
    assert first.kept == list(range(23))
    assert failures > 0
    assert _columns(exporter) == (237, 237, {}, 0)
    assert words.events()[:2] == ["exporter.unavailable", "exporter.recovered"]


def test_failed_attempts_leave_nothing_behind() -> None:
    """A new channel each time, and no descriptor more."""
    with grpc_collector() as (port, _):
        pass
    with _exporter(f"http://127.0.0.1:{port}", end_seconds=0.0) as exporter:
        sender = exporter._sender
        for _ in range(3):
            sender.send(b"", 1.0)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            sender.send(b"", 1.0)
        assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_compression(compression: str) -> None:
    with (
        grpc_collector() as (port, seen),
        _exporter(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_COMPRESSION=compression) as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.kept == list(range(23))
        assert _columns(exporter) == (23, 23, {}, 0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _server_credentials(authority: trustme.CA, *, clients: bool = False) -> grpc.ServerCredentials:
    own = authority.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(blob.bytes() for blob in own.cert_chain_pems)
    root = authority.cert_pem.bytes() if clients else None
    return grpc.ssl_server_credentials([(own.private_key_pem.bytes(), chain)], root, require_client_auth=clients)


def _file(folder: Path, name: str, blob: trustme.Blob) -> str:
    path = folder / name
    blob.write_to_path(path)
    return str(path)


def test_tls_with_an_authority_of_its_own(authority: trustme.CA, tmp_path: Path) -> None:
    with (
        grpc_collector(credentials=_server_credentials(authority)) as (port, seen),
        _exporter(
            f"https://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_CERTIFICATE=_file(tmp_path, "ca.pem", authority.cert_pem),
        ) as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.kept == list(range(23))
        assert _columns(exporter) == (23, 23, {}, 0)


@pytest.mark.parametrize("given", ["stranger", "system"])
def test_tls_with_the_wrong_authority_delivers_nothing(
    given: str, authority: trustme.CA, tmp_path: Path, words: Words
) -> None:
    variables = {}
    if given == "stranger":
        variables["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] = _file(tmp_path, "ca.pem", trustme.CA().cert_pem)
    with grpc_collector(credentials=_server_credentials(authority)) as (port, seen):
        with _exporter(f"https://127.0.0.1:{port}", end_seconds=0.0, **variables) as exporter:
            exporter.export(made(23))
            await_failure(exporter.account)
        assert seen.attempts == []
    assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)
    assert words.events()[0] == "exporter.unavailable"
    assert "CERTIFICATE_VERIFY_FAILED" in words.lines()[0]["reason"]


def test_a_failing_handshake_is_told_in_our_words_only(authority: trustme.CA) -> None:
    """gRPC's core has a log of its own on standard error, without a limit; it is quiet."""
    program = """
import sys, time
from otelbpf.exporters.build import build_exporters
from otelbpf.telemetry.ledger import Ledger
from tests.exporters.sample import made
environment = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": sys.argv[1]}
exporter = build_exporters(["otlp"], environment=environment, ledger=Ledger(), version="1")[0]
exporter.export(made(23))
while not exporter.account.failures:
    time.sleep(0.01)
exporter.shutdown(0.1)
print(dict(exporter.account.lost))
"""
    variables = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    with grpc_collector(credentials=_server_credentials(authority)) as (port, _):
        command = [sys.executable, "-c", program, f"https://127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables, timeout=60)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["exporter.unavailable", "exporter.undelivered"]
    assert done.stdout == "{<Lost.UNDELIVERED: 'undelivered'>: 23}\n"


@pytest.mark.parametrize("shown", [True, False])
def test_a_server_that_wants_to_know_its_clients(shown: bool, authority: trustme.CA, tmp_path: Path) -> None:
    variables = {"OTEL_EXPORTER_OTLP_CERTIFICATE": _file(tmp_path, "ca.pem", authority.cert_pem)}
    if shown:
        own = authority.issue_cert("collector@example.org")
        variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = _file(tmp_path, "key.pem", own.private_key_pem)
        variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = _file(tmp_path, "own.pem", own.cert_chain_pems[0])
    with grpc_collector(credentials=_server_credentials(authority, clients=True)) as (port, seen):
        with _exporter(f"https://127.0.0.1:{port}", end_seconds=0.2, **variables) as exporter:
            exporter.export(made(23))
            if shown:
                exporter.flush(10)
            else:
                await_failure(exporter.account)
        lost = {} if shown else {Lost.UNDELIVERED: 23}
        assert _columns(exporter) == (23, 23 if shown else 0, lost, 0)
        assert seen.kept == (list(range(23)) if shown else [])


def test_insecure_is_for_targets_without_a_scheme() -> None:
    with (
        grpc_collector() as (port, seen),
        _exporter(f"127.0.0.1:{port}", OTEL_EXPORTER_OTLP_INSECURE="true") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.kept == list(range(23))
