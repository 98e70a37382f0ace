"""What is kept of a connection does not grow with what goes over it."""

from __future__ import annotations

import pytest

from otelbpf.telemetry.ledger import Lost, Unseen
from tests.fake_kernel import FakeKernel, attributes

PIECES = 499


def times_kept(kernel: FakeKernel) -> list[tuple[int, ...]]:
    """Of each connection: how many times of bytes received and sent are remembered, beside the newest."""
    return [tuple(len(s._marks or ()) for s in (each.received, each.sent)) for each in kernel.pipeline._tracker]


@pytest.mark.parametrize("captured", [None, 0])
def test_a_side_that_never_stops_talking_of_something_unknown(captured: int | None) -> None:
    """A log shipper: one turn, so that the connection is never left alone."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for _ in range(PIECES):
        socket.receive(b"\x00\x01not HTTP", captured=captured)

    assert times_kept(kernel) == [(0, 0)]


def test_a_download_that_was_under_way_at_the_start() -> None:
    kernel = FakeKernel()
    socket = kernel.accept(joined=True)
    for _ in range(PIECES):
        socket.send(b"the rest of a body")

    assert times_kept(kernel) == [(0, 0)]


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n"])
def test_what_is_over_but_cannot_be_muted(first: bytes) -> None:
    """TLS, or another protocol after an upgrade, in a file of packets."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(first).send(b"HTTP/1.1 101 X\r\n\r\n")
    for _ in range(PIECES):
        socket.receive(b"ping").send(b"pong")

    assert times_kept(kernel) == [(0, 0)]


def test_a_first_line_in_pieces_keeps_the_time_of_its_begin() -> None:
    kernel = FakeKernel()
    socket = kernel.accept()
    for byte in b"GET / HTTP/1.1\r\n":
        socket.receive(bytes([byte]))
    began_ns = kernel.now_ns - (len(b"GET / HTTP/1.1\r\n") - 1) * 1000
    socket.receive(b"Host: h\r\n\r\n").send(b"HTTP/1.1 204 No Content\r\n\r\n")
    (span,) = kernel.spans()

    assert attributes(span)["otelbpf.time_to_first_byte_ns"] == kernel.now_ns - began_ns
    assert times_kept(kernel) == [(0, 0)]


def test_connections_that_gave_way_are_accounted_for_once_however_many_they_are() -> None:
    """A table of two places, and twenty connections that are all still open when the last one comes."""
    request, answer = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    kernel = FakeKernel(max_connections=2)
    sockets = [kernel.accept(peer_port=port).receive(request) for port in range(1, 21)]
    for socket in sockets:
        socket.send(answer).close()
    ledger = kernel.finish()

    assert ledger.connections == {"opened": 20, "evicted": 18}
    assert ledger.spans_lost == {Lost.EVICTED: 18}
    assert ledger.kernel_bytes == 20 * (len(request) + len(answer))
    assert ledger.unseen_bytes == {Unseen.EVICTED: 18 * len(answer)}
    assert ledger.bytes_balance() == ledger.requests_balance() == 0
