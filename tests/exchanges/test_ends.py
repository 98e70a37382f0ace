"""How a connection ends, and what that says of the exchange that was under way."""

from __future__ import annotations

import pytest

from otelbpf.telemetry.ledger import Lost, Unseen
from otelbpf.tracing.span import Kind, Status
from tests.exchanges.test_session import GET, OK, balanced
from tests.fake_kernel import BOOT_NS, FakeKernel, attributes

MS = 1_000_000


@pytest.mark.parametrize("error", [0, 104])
def test_a_server_that_closes_without_an_answer_is_an_error(error: int) -> None:
    """error.type is the kernel's, or connection_closed."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    socket.close(error=error)

    (span,) = kernel.spans()
    assert span.status is Status.ERROR
    assert attributes(span)["error.type"] == ("ECONNRESET" if error else "connection_closed")
    assert "http.response.status_code" not in attributes(span)
    balanced(kernel)


def test_a_request_without_an_answer_lasts_until_its_side_is_done() -> None:
    """A client that waits no longer closes: that is its end, even if the server has not noticed. The server is at work
    until it closes, too."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client.send(GET % 1)
    server.receive(GET % 1)
    began = kernel.now_ns
    kernel.tick(300 * MS)
    client.end_sending()
    server.peer_ends()
    gave_up = kernel.now_ns
    kernel.tick(1200 * MS)
    server.close()
    client.close()
    spans = {span.kind: span for span in kernel.spans()}
    assert {kind: attributes(span)["error.type"] for kind, span in spans.items()} == dict.fromkeys(
        (Kind.CLIENT, Kind.SERVER), "connection_closed"
    )
    ends = {kind: span.end_ns - BOOT_NS for kind, span in spans.items()}
    assert began + 300 * MS <= ends[Kind.CLIENT] <= gave_up
    assert gave_up + 1200 * MS <= ends[Kind.SERVER] <= kernel.now_ns
    balanced(kernel)


def test_a_client_whose_server_closes_ends_with_that() -> None:
    """By a FIN or by a reset, however late the client closes."""
    for error in (0, 104):
        kernel = FakeKernel()
        client = kernel.connect().send(GET % 1)
        kernel.tick(300 * MS)
        ended = kernel.now_ns
        if not error:
            client.peer_ends()
            ended = kernel.now_ns
            kernel.tick(1200 * MS)
        client.close(error=error)
        (span,) = kernel.spans()
        assert ended <= span.end_ns - BOOT_NS <= ended + 10 * MS


def test_a_request_behind_its_servers_fin_lasts_until_the_reset() -> None:
    """It was sent over a connection that the server had ended: not that end is its own."""
    kernel = FakeKernel()
    client = kernel.connect().send(GET % 1).receive(OK % 1)
    client.peer_ends()
    kernel.tick(100 * MS)
    client.send(GET % 2)
    kernel.tick(300 * MS)
    client.close(error=104)

    _, span = kernel.spans()
    assert 300 * MS <= span.end_ns - span.start_ns <= 310 * MS
    balanced(kernel)


def test_a_server_is_done_when_it_closes_not_when_its_client_has_heard() -> None:
    """Its FIN may go unacknowledged for a minute."""
    kernel = FakeKernel()
    server = kernel.accept().receive(GET % 1)
    kernel.tick(100 * MS)
    server.peer_ends()
    server.end_sending()
    kernel.tick(60_000 * MS)
    server.close(error=110)

    (span,) = kernel.spans()
    assert 100 * MS <= span.end_ns - span.start_ns <= 110 * MS
    balanced(kernel)


def test_a_response_cut_off_is_an_error_with_its_status() -> None:
    """Five of a hundred bytes, then the end."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    socket.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").close()

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "connection_closed"
    assert attributes(span)["http.response.status_code"] == 200
    balanced(kernel)


def test_a_response_without_framing_ends_with_the_connection() -> None:
    """No error: closing is its framing (RFC 9112 section 6.3, rule 8)."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    socket.send(b"HTTP/1.0 200 OK\r\n\r\nhello").send(b" world")
    assert kernel.spans() == []
    socket.end_sending()

    (span,) = kernel.spans()
    assert (span.status, attributes(span)["http.response.body.size"]) == (Status.UNSET, 11)
    balanced(kernel)


def test_a_connection_open_before_may_end_within_a_body_without_framing() -> None:
    """By a reset: nobody said before that no more would come."""
    kernel = FakeKernel()
    server = kernel.accept(joined=True).receive(b"GET /a HTTP/1.0\r\n\r\n").send(b"HTTP/1.0 200 OK\r\n\r\nabc")
    server.close(error=104)

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 3
    assert attributes(span)["error.type"] == "ECONNRESET"
    assert kernel.ledger.requests_balance() == 0


@pytest.mark.parametrize(
    ("framing", "lost"),
    [
        (b"Transfer-Encoding: gzip", {}),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: deflate", {}),
        (b"Transfer-Encoding: gzip\r\nContent-Length: 2", {Lost.UNPARSABLE: 1}),
        (b"Transfer-Encoding: chunked, gzip", {Lost.UNPARSABLE: 1}),
    ],
)
def test_a_response_of_other_transfer_codings_ends_with_the_connection(framing: bytes, lost: dict[Lost, int]) -> None:
    """RFC 9112 section 6.3, rule 4. Where clients differ in what frames it, it is lost by name."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    socket.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n\x1f\x8b").send(b"body").close()

    found = [attributes(span) for span in kernel.spans()]
    assert [(span["http.response.body.size"], span.get("error.type")) for span in found] == [(6, None)] * (not lost)
    assert kernel.ledger.spans_lost == lost
    balanced(kernel)


def test_a_client_that_stops_reading_a_body_without_framing_is_an_error() -> None:
    """What arrived and was not read is counted as unread."""
    kernel = FakeKernel()
    socket = kernel.connect().send(GET % 1).receive(b"HTTP/1.0 200 OK\r\n\r\nhello").arrive(1000)
    socket.close()

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "connection_closed"
    assert kernel.ledger.unseen_bytes == {Unseen.UNREAD: 1000}
    balanced(kernel)
