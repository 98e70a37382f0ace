"""OTLP over HTTP against a real server: what every answer does to the account."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from otelbpf.exporters.build import build_exporters
from otelbpf.exporters.queue import QueuedExporter
from otelbpf.telemetry.ledger import Ledger, Lost
from tests.exporters.collector import HttpAnswer, http_collector, partial, protobuf_numbers, rpc_status
from tests.exporters.conftest import Words, await_failure
from tests.exporters.sample import VERSION, made


@contextmanager
def _exporter(endpoint: str, end_seconds: float = 5.0, **variables: str) -> Iterator[QueuedExporter]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "0"}
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


@pytest.mark.parametrize(
    ("variable", "path", "arrives_at"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/", "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/base/", "/base/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/my/traces", "/my/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/", "/"),
    ],
)
def test_endpoints_mean_what_they_mean_everywhere(variable: str, path: str, arrives_at: str) -> None:
    with (
        http_collector() as (port, seen),
        _exporter("http://127.0.0.1:1", 5.0, **{variable: f"http://127.0.0.1:{port}{path}"}) as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert (seen.kept, seen.paths) == (list(range(23)), [arrives_at])
        assert _columns(exporter) == (23, 23, {}, 0)


def test_headers() -> None:
    with (
        http_collector() as (port, seen),
        _exporter(
            f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=base",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="api-key=secret%3D1,Tenant=shop",
        ) as exporter,
    ):
        exporter.export(made(1))
        exporter.flush(10)

        headers = seen.headers[0]
        assert (headers["api-key"], headers["tenant"], headers["content-type"]) == (
            "secret=1",
            "shop",
            "application/x-protobuf",
        )


def _json_numbers(body: bytes) -> list[int]:
    scope = json.loads(body)["resourceSpans"][0]["scopeSpans"][0]
    return [int(span["spanId"], 16) for span in scope["spans"]]


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_compression_and_encoding(compression: str, protocol: str) -> None:
    with (
        http_collector(parse=_json_numbers if protocol == "http/json" else protobuf_numbers) as (port, seen),
        _exporter(
            f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_COMPRESSION=compression,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        ) as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.kept == list(range(23))
        assert seen.headers[0].get("content-encoding", "none") == compression
        media_type = "application/json" if protocol == "http/json" else "application/x-protobuf"
        assert seen.headers[0]["content-type"] == media_type


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_failures_are_tried_again(status: int, words: Words) -> None:
    with (
        http_collector(HttpAnswer(status, body=rpc_status("not now"))) as (port, seen),
        _exporter(f"http://127.0.0.1:{port}") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert seen.attempts == [list(range(23))] * 2
        assert _columns(exporter) == (23, 23, {}, 0)
        assert exporter.account.failures == 1
    assert words.events() == ["exporter.unavailable", "exporter.recovered"]
    line = words.lines()[0]
    assert line["reason"].startswith(f"HTTP {status} ")
    assert line["reason"].endswith(": not now")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 500, 501])
def test_final_refusals_are_counted(status: int, words: Words) -> None:
    answer = HttpAnswer(status, body=b"go \x1b[31maway", content_type="text/plain")
    with http_collector(answer) as (port, seen), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)
        exporter.export(made(2, begin=23))
        exporter.flush(10)

        assert seen.kept == [23, 24]
        assert _columns(exporter) == (25, 2, {Lost.REJECTED: 23}, 0)
    assert words.events() == ["exporter.rejected"]
    assert words.lines()[0]["reason"].endswith(r"go \x1b[31maway")


@pytest.mark.parametrize("asks", ["seconds", "date"])
def test_retry_after_is_honoured(asks: str) -> None:
    value = "1" if asks == "seconds" else formatdate(time.time() + 2, usegmt=True)
    answer = HttpAnswer(429, headers=(("Retry-After", value),))
    with http_collector(answer) as (port, seen), _exporter(f"http://127.0.0.1:{port}") as exporter:
        begin = time.monotonic()
        exporter.export(made(23))
        exporter.flush(10)

        assert 0.9 <= time.monotonic() - begin < 5
        assert len(seen.attempts) == 2
        assert _columns(exporter) == (23, 23, {}, 0)


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "1e400", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(value: str) -> None:
    answer = HttpAnswer(503, headers=(("Retry-After", value),))
    with http_collector(answer) as (port, _), _exporter(f"http://127.0.0.1:{port}") as exporter:
        begin = time.monotonic()
        exporter.export(made(23))
        exporter.flush(10)

        assert time.monotonic() - begin < 5
        assert _columns(exporter) == (23, 23, {}, 0)


@pytest.mark.parametrize(
    ("content_type", "body", "rejected"),
    [
        ("application/x-protobuf", partial(7, "clock skew"), 7),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"7","errorMessage":"clock skew"}}', 7),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":7}}', 7),
        ("application/json", b"{}", 0),
        ("application/json", b"{", 0),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":{}}}', 0),
        ("application/x-protobuf", b"", 0),
        ("application/x-protobuf", b"\xff\xff\xff", 0),
        ("text/html", b"<html>welcome</html>", 0),
    ],
)
def test_partial_success(content_type: str, body: bytes, rejected: int) -> None:
    answer = HttpAnswer(200, body=body, content_type=content_type)
    with http_collector(answer) as (port, _), _exporter(f"http://127.0.0.1:{port}") as exporter:
        exporter.export(made(23))
        exporter.flush(10)

        lost = {Lost.REJECTED: rejected} if rejected else {}
        assert _columns(exporter) == (23, 23 - rejected, lost, 0)


def test_a_body_that_is_too_large_is_sent_in_parts() -> None:
    with http_collector(HttpAnswer(413), HttpAnswer(413)) as (port, seen):
        with _exporter(f"http://127.0.0.1:{port}") as exporter:
            exporter.export(made(100))
            exporter.flush(10)

        assert [len(batch) for batch in seen.attempts[:3]] == [100, 50, 25]
        assert seen.kept == list(range(100))
        assert _columns(exporter) == (100, 100, {}, 0)
        assert exporter.account.failures == 2


def test_a_hanging_backend_is_given_up_and_tried_again() -> None:
    with (
        http_collector(HttpAnswer(hangs=True)) as (port, seen),
        _exporter(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="200") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)

        assert len(seen.attempts) == 2
        assert _columns(exporter) == (23, 23, {}, 0)
        assert exporter.account.failures == 1


def test_the_end_does_not_wait_for_a_hanging_backend() -> None:
    with http_collector(HttpAnswer(hangs=True)) as (port, seen):
        with _exporter(f"http://127.0.0.1:{port}", end_seconds=0.2) as exporter:
            exporter.export(made(23))
            assert seen.arrived.acquire(timeout=10)
            begin = time.monotonic()
        assert time.monotonic() - begin < 5
        assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)
        seen.release.set()
        exporter._thread.join(10)
        assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)


def test_a_connection_that_breaks_is_made_anew() -> None:
    """The library tries once more at once; the queue need not."""
    with (
        http_collector(HttpAnswer(), HttpAnswer(hangs_up=True)) as (port, seen),
        _exporter(f"http://127.0.0.1:{port}") as exporter,
    ):
        exporter.export(made(23))
        exporter.flush(10)
        exporter.export(made(2, begin=23))
        exporter.flush(10)

        assert seen.kept == list(range(25))
        assert _columns(exporter) == (25, 25, {}, 0)
        assert exporter.account.failures == 0


def test_a_backend_that_goes_and_returns_costs_nothing(words: Words) -> None:
    with http_collector() as (port, _):
        pass
    with _exporter(f"http://127.0.0.1:{port}") as exporter:
        for begin in range(0, 230, 23):
            exporter.export(made(23, begin=begin))
            time.sleep(0.02)
        with http_collector(port=port) as (_, seen):
            exporter.flush(20)
            assert seen.kept == list(range(230))
        assert exporter.account.failures > 0
        assert _columns(exporter) == (230, 230, {}, 0)
    assert words.events() == ["exporter.unavailable", "exporter.recovered"]
    line = words.lines()[0]
    assert line["reason"].endswith("Connection refused")
    assert line["to"] == f"http://127.0.0.1:{port}/v1/traces (http/protobuf)"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _server_tls(authority: trustme.CA, *, clients: bool = False) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    if clients:
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(tls)
    return tls


def _file(folder: Path, name: str, *blobs: trustme.Blob) -> str:
    path = folder / name
    for blob in blobs:
        blob.write_to_path(path, append=True)
    return str(path)


def test_tls_with_an_authority_of_its_own(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where REQUESTS_CA_BUNDLE names another one."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", _file(tmp_path, "other.pem", trustme.CA().cert_pem))
    with (
        http_collector(tls=_server_tls(authority)) as (port, seen),
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
    with http_collector(tls=_server_tls(authority)) as (port, seen):
        with _exporter(f"https://127.0.0.1:{port}", end_seconds=0.0, **variables) as exporter:
            exporter.export(made(23))
            await_failure(exporter.account)
        assert seen.attempts == []
    assert _columns(exporter) == (23, 0, {Lost.UNDELIVERED: 23}, 0)
    assert "CERTIFICATE_VERIFY_FAILED" in words.lines()[0]["reason"]


@pytest.mark.parametrize("shown", ["two files", "one file", "none"])
def test_a_server_that_wants_to_know_its_clients(shown: str, authority: trustme.CA, tmp_path: Path) -> None:
    own = authority.issue_cert("collector@example.org")
    variables = {"OTEL_EXPORTER_OTLP_CERTIFICATE": _file(tmp_path, "ca.pem", authority.cert_pem)}
    if shown == "two files":
        variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = _file(tmp_path, "key.pem", own.private_key_pem)
        variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = _file(tmp_path, "own.pem", own.cert_chain_pems[0])
    elif shown == "one file":
        both = _file(tmp_path, "both.pem", own.private_key_pem, own.cert_chain_pems[0])
        variables["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] = both
    with http_collector(tls=_server_tls(authority, clients=True)) as (port, seen):
        with _exporter(f"https://127.0.0.1:{port}", end_seconds=0.2, **variables) as exporter:
            exporter.export(made(23))
            if shown == "none":
                await_failure(exporter.account)
            else:
                exporter.flush(10)
        lost = {Lost.UNDELIVERED: 23} if shown == "none" else {}
        assert _columns(exporter) == (23, 0 if shown == "none" else 23, lost, 0)
        assert seen.kept == ([] if shown == "none" else list(range(23)))
