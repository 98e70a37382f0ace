"""The health server over real sockets: what it answers, what it refuses, and that no client can hold it up."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator

import pytest

from otelbpf.errors import ExportError
from otelbpf.exporters import health
from otelbpf.exporters.health import HealthServer


def _metrics(accept: str) -> tuple[list[bytes], str]:
    return [b"accept=", b"", f"{accept}\n".encode()], "text/plain; version=0.0.4"


@pytest.fixture
def server() -> Iterator[HealthServer]:
    with HealthServer("127.0.0.1:0", metrics=_metrics) as running:
        yield running


def _get(server: HealthServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.address, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def _raw(server: HealthServer, data: bytes) -> bytes:
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer


def test_readiness_follows_the_collector(server: HealthServer) -> None:
    assert _get(server, "/healthz") == (200, "ok\n")
    assert _get(server, "/readyz") == (503, "not attached yet\n")
    server.ready()
    assert _get(server, "/readyz") == (200, "ok\n")
    server.draining()
    assert _get(server, "/readyz") == (503, "draining\n")
    assert _get(server, "/healthz") == (200, "ok\n")


def test_metrics_are_asked_for_with_the_accept_header(server: HealthServer) -> None:
    assert _get(server, "/metrics", Accept="a/b") == (200, "accept=a/b\n")
    assert _get(server, "/metrics?name[]=up") == (200, "accept=\n")


def test_metrics_come_in_pieces_as_the_version_has_them(server: HealthServer) -> None:
    """Chunked, or until the connection ends; HEAD has none."""
    head, _, body = _raw(server, b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert body == b"7\r\naccept=\r\n2\r\nx\n\r\n0\r\n\r\n"

    head, _, body = _raw(server, b"GET /metrics HTTP/1.0\r\nAccept: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b"accept=x\n"

    assert _raw(server, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")[2] == b""


def test_head_tells_the_length_and_sends_no_body(server: HealthServer) -> None:
    answer = _raw(server, b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_other_paths_and_methods_are_refused(server: HealthServer) -> None:
    assert _get(server, "/") == (404, "try /metrics, /healthz or /readyz\n")
    assert _get(server, "/metrics/../etc/passwd")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert _get(server, "/metrics", method) == (405, "only GET and HEAD\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_bad_requests_get_one_answer(server: HealthServer, data: bytes, status: int) -> None:
    assert _raw(server, data).split(b" ", 2)[1] == str(status).encode()


def test_one_request_a_connection(server: HealthServer) -> None:
    answer = _raw(server, b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in answer


def test_clients_that_say_nothing_hold_nobody_up(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_DEADLINE_SECONDS", 0.3)
    host, port = server.address.split(":")
    silent = [socket.create_connection((host, int(port)), timeout=5) for _ in range(100)]
    begun = time.monotonic()

    assert [client.recv(1) for client in silent] == [b""] * 100
    assert time.monotonic() - begun < 3
    assert _get(server, "/healthz") == (200, "ok\n")
    for client in silent:
        client.close()


def test_a_client_that_reads_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_DEADLINE_SECONDS", 0.3)
    with HealthServer("127.0.0.1:0", metrics=lambda accept: ([b"x" * (1 << 20)] * 32, "text/plain")) as server:
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert _get(server, "/healthz") == (200, "ok\n")
            time.sleep(0.5)
            received = 0
            try:
                while chunk := client.recv(1 << 20):
                    received += len(chunk)
            except ConnectionResetError:
                pass
            assert received < 32 << 20


def test_a_taken_port_is_named_with_what_helps(server: HealthServer) -> None:
    with pytest.raises(ExportError) as caught:
        HealthServer(server.address, metrics=_metrics)

    assert str(caught.value) == (
        f"cannot listen on {server.address}: the port is taken; "
        "choose another address with --listen HOST:PORT, or --listen off"
    )


@pytest.mark.parametrize("address", ["no-such-host.invalid:1", "192.0.2.1:9464"])
def test_an_address_that_is_not_here_is_named(address: str) -> None:
    with pytest.raises(ExportError, match=f"cannot listen on {address}: "):
        HealthServer(address, metrics=_metrics)


def test_ipv6_is_served() -> None:
    with HealthServer("[::1]:0", metrics=_metrics) as server:
        assert server.address.startswith("[::1]:")
        assert _get(server, "/healthz") == (200, "ok\n")


def test_after_close_nobody_listens_and_closing_again_is_harmless() -> None:
    server = HealthServer("127.0.0.1:0", metrics=_metrics)
    host, port = server.address.split(":")
    server.close()
    server.close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
