"""How plain text inside TLS ends, and what never shows any: which requests are told as what, and whom that accuses."""

from __future__ import annotations

import ssl

import pytest

from otelbpf.events.wire import Unseen as Why
from otelbpf.telemetry.ledger import Lost, Unseen
from otelbpf.tls.encryption import MAX_PIECES, WAIT_NS
from tests.fake_kernel import FakeKernel, FakeSocket, attributes
from tests.fake_tls import End, FakeSession
from tests.tls.test_encryption import ANSWER, HEADER, REQUEST, V12, V13, balanced, handshake_over

MS = 1_000_000


def asked() -> tuple[FakeKernel, FakeSocket, FakeSession, End]:
    """A client has sent its request: its socket and session, and the server's end."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=100)
    ours, theirs = handshake_over(socket, None)
    session = FakeSession(kernel, pid=100)
    socket.send(ours.encrypt(REQUEST))
    session.bind(socket).write(REQUEST)
    return kernel, socket, session, theirs


def test_early_data_that_the_server_refuses() -> None:
    """It is lost by name; the answer is that to the request written again."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=100)
    ours, theirs = handshake_over(socket, None)
    early = FakeSession(kernel, pid=100).write(REQUEST.replace(b"/a", b"/early"))
    session = early.refuse()
    socket.send(ours.encrypt(REQUEST))
    session.bind(socket).write(REQUEST)
    answer = theirs.encrypt(ANSWER)
    socket.receive(answer)
    session.read(ANSWER)
    session.free()
    socket.close()
    kernel.wait()

    (span,) = kernel.spans()
    assert attributes(span)["url.full"] == "https://site.example/a"
    assert attributes(span)["http.response.status_code"] == 200
    assert kernel.ledger.spans_lost[Lost.EARLY_DATA_REFUSED] == 1
    balanced(kernel)


@pytest.mark.parametrize("socket_first", [True, False])
def test_an_unanswered_request_lasts_until_its_side_gives_up(socket_first: bool) -> None:
    """Whether the session or the socket goes first."""
    kernel, socket, session, _ = asked()
    kernel.tick(300 * MS)
    if not socket_first:
        session.shut().free()
    socket.close()
    if socket_first:
        session.free()
    kernel.wait()

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "connection_closed"
    assert 300 * MS <= span.end_ns - span.start_ns <= 310 * MS
    balanced(kernel)


def test_an_answer_that_the_library_still_holds_when_its_socket_ends() -> None:
    """Read in two calls after that: it is whole."""
    kernel, socket, session, theirs = asked()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + bytes(20)
    socket.receive(theirs.encrypt(answer))
    socket.close()
    session.read(answer[:45]).read(answer[45:]).free()
    kernel.wait()

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 20
    assert not {"error.type", "otelbpf.response.incomplete"} & set(attributes(span))
    balanced(kernel)


def test_ciphertext_that_nobody_reads_is_left_out_after_a_while() -> None:
    """And its account balances."""
    kernel = FakeKernel()
    socket = kernel.accept()
    handshake_over(None, socket)
    for _ in range(MAX_PIECES + 1):
        socket.receive(HEADER + b"\x00\x20" + bytes(32))
    assert kernel.source.muted == [socket.key]
    socket.close()

    assert (kernel.ledger.connections["tls"], kernel.ledger.connections["tls_not_read"]) == (1, 1)
    balanced(kernel)


def test_a_body_that_ends_with_the_connection() -> None:
    """The client's library is freed after the peer's FIN: the answer is whole."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=7)
    session = FakeSession(kernel, pid=7).bind(socket)
    session.write(REQUEST).read(b"HTTP/1.0 200 OK\r\n\r\nbody")
    socket.peer_ends()
    session.free()
    socket.close()

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 4
    assert "error.type" not in attributes(span)
    balanced(kernel)


def test_a_process_that_ends_without_a_word() -> None:
    """No session is freed: its socket's end is its own, a second later."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=7)
    session = FakeSession(kernel, pid=7).bind(socket)
    session.write(REQUEST)
    socket.close(error=104)
    assert kernel.spans() == []
    kernel.wait(2 * WAIT_NS)

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "ECONNRESET"
    assert kernel.pipeline.open_connections == 0
    balanced(kernel)


def test_what_is_open_at_the_end_is_lost_by_name() -> None:
    """And what had waited is told."""
    kernel = FakeKernel()
    session = FakeSession(kernel, pid=7)
    session.read(REQUEST).write(ANSWER).read(REQUEST)
    ledger = kernel.finish()

    assert len(kernel.spans()) == 1
    assert ledger.spans_lost[Lost.SHUTDOWN] == 1
    balanced(kernel)


def test_a_process_that_cannot_be_read_is_named_once() -> None:
    """However many connections it has."""
    named: list[int] = []
    kernel = FakeKernel(unread=lambda identity: named.append(identity.pid))
    for number in range(3):
        socket = kernel.connect(pid=7, port=40000 + number)
        client, _ = handshake_over(socket, None)
        socket.send(client.encrypt(REQUEST))
        socket.close()

    assert named == [7]
    assert kernel.ledger.connections["tls_not_read"] == 3


@pytest.mark.parametrize("version", [V12, V13])
def test_a_handshake_alone_accuses_nobody(version: ssl.TLSVersion) -> None:
    """A client that does not believe the certificate, a check that somebody is there: nothing was there to be read."""
    named: list[int] = []
    kernel = FakeKernel(unread=lambda identity: named.append(identity.pid))
    client, server = kernel.pair()
    client_end, server_end = handshake_over(client, server, version)
    ends = client_end.end(), server_end.end()
    client.send(ends[0])
    server.receive(ends[0])
    server.send(ends[1])
    client.receive(ends[1])
    client.close()
    server.close()

    assert named == []
    assert (kernel.ledger.connections["tls_not_used"], kernel.ledger.connections["tls_not_read"]) == (2, 0)
    balanced(kernel)


def test_a_late_end_of_a_session_is_no_new_one() -> None:
    """Freed long after its socket was closed."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=7)
    session = FakeSession(kernel, pid=7).bind(socket)
    session.write(REQUEST).read(ANSWER)
    socket.close()
    kernel.wait(2 * WAIT_NS)
    session.free()

    assert kernel.ledger.connections["tls_opened"] == 1
    assert kernel.ledger.tls.kernel_bytes == len(REQUEST) + len(ANSWER)
    balanced(kernel)


@pytest.mark.parametrize("readable", [True, False])
def test_a_connection_open_before_that_the_kernel_encrypts(readable: bool) -> None:
    """Nothing of it is seen but how long it is: no request is missed in it, whether or not its library is read."""
    kernel = FakeKernel()
    server = kernel.accept(joined=True)
    session = FakeSession(kernel, pid=server.pid, joined=True)
    for number in range(3):
        asked, answer = REQUEST.replace(b"/a", b"/%d" % number), ANSWER
        server.receive(bytes(len(asked) + 22), captured=0, why=Why.KERNEL_TLS)
        if readable:
            session.bind(server).read(asked)
        server.send(bytes(len(answer) + 22), captured=0, why=Why.KERNEL_TLS)
        if readable:
            session.write(answer)
    server.close()
    kernel.finish()

    assert [attributes(span)["url.path"] for span in kernel.spans()] == (["/0", "/1", "/2"] if readable else [])
    assert kernel.ledger.spans_lost == {}
    assert kernel.ledger.connections["tls"] == 1
    assert kernel.ledger.connections["tls_not_read"] == (0 if readable else 1)
    assert kernel.ledger.unseen_bytes[Unseen.KERNEL_TLS] > 0
    balanced(kernel)


def test_a_lost_record_is_a_hole_in_the_plain_text() -> None:
    """The account of the plain text tells it by its reason."""
    kernel = FakeKernel()
    socket = kernel.accept()
    session = FakeSession(kernel, pid=socket.pid).bind(socket)
    session.read(REQUEST).write(ANSWER, lose=True).free()

    assert kernel.ledger.tls.unseen_bytes == {"ring_full": len(ANSWER), "hole": 0}
    balanced(kernel)
