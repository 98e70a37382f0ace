"""Plain text and ciphertext of one connection: what its spans say, what waits for what, and both accounts."""

from __future__ import annotations

import ssl

import pytest

from otelbpf.events import encode
from otelbpf.events.types import Host
from otelbpf.events.wire import Unseen as Why
from otelbpf.telemetry.ledger import Lost, Unseen
from otelbpf.tls import encryption
from otelbpf.tls.encryption import MAX_PIECES, MAX_WAITING, WAIT_NS
from tests.batches import SIZES, in_batches, told
from tests.fake_kernel import FakeKernel, FakeSocket, attributes
from tests.fake_tls import End, FakeSession, shake_hands

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
REQUEST = b"GET /a HTTP/1.1\r\nHost: site.example\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADER = b"\x17\x03\x03"
MS = 1_000_000


def balanced(kernel: FakeKernel) -> None:
    ledger = kernel.ledger
    balances = (ledger.bytes_balance(), ledger.tls.bytes_balance(), ledger.requests_balance())
    assert balances == (0, 0, 0)


def handshake_over(
    client: FakeSocket | None, server: FakeSocket | None, version: ssl.TLSVersion = V13
) -> tuple[End, End]:
    """Real TLS goes over fake sockets until both ends may speak."""
    client_end, server_end, flights = shake_hands(version)
    for by_client, data in flights:
        sender, receiver = (client, server) if by_client else (server, client)
        if sender is not None:
            sender.send(data)
        if receiver is not None:
            receiver.receive(data)
    return client_end, server_end


def test_a_client_and_a_server_that_their_own_calls_tell() -> None:
    """Socket BIOs: curl and nginx."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client_end, server_end = handshake_over(client, server)
    asking, answering = FakeSession(kernel, pid=client.pid), FakeSession(kernel, pid=server.pid)
    client.send(client_end.encrypt(REQUEST))
    asking.bind(client).write(REQUEST)
    server.receive(client_end.encrypt(REQUEST))
    answering.bind(server).read(REQUEST)
    answer = server_end.encrypt(ANSWER)
    server.send(answer)
    answering.write(ANSWER)
    client.receive(answer)
    asking.read(ANSWER)

    served, asked = kernel.spans()
    assert attributes(asked) == {
        "http.request.method": "GET",
        "url.full": "https://site.example/a",
        "url.template": "/a",
        "url.scheme": "https",
        "server.address": "site.example",
        "server.port": 443,
        "http.request.body.size": 0,
        "http.response.status_code": 200,
        "http.response.body.size": 2,
        "otelbpf.time_to_first_byte_ns": attributes(asked)["otelbpf.time_to_first_byte_ns"],
        "network.protocol.version": "1.1",
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 80,
        "network.local.address": "10.0.0.2",
        "network.local.port": 40000,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "otelbpf.tls.evidence": "nested_call",
        "tls.protocol.name": "tls",
        "tls.protocol.version": "1.3",
        "tls.cipher": "TLS_AES_256_GCM_SHA384",
        "tls.client.server_name": "site.example",
        "tls.resumed": False,
    }
    assert attributes(served)["client.address"] == "10.0.0.2"
    assert (served.trace_id, served.parent_id) == (asked.trace_id, asked.span_id)
    assert kernel.source.muted == [client.key, server.key]
    asking.free()
    answering.free()
    client.close()
    server.close()
    balanced(kernel)


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
    kernel = FakeKernel()
    socket = kernel.connect(pid=100)
    ours, _ = handshake_over(socket, None)
    session = FakeSession(kernel, pid=100)
    socket.send(ours.encrypt(REQUEST))
    session.bind(socket).write(REQUEST)
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
    kernel = FakeKernel()
    socket = kernel.connect(pid=100)
    ours, theirs = handshake_over(socket, None)
    session = FakeSession(kernel, pid=100)
    socket.send(ours.encrypt(REQUEST))
    session.bind(socket).write(REQUEST)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + bytes(20)
    socket.receive(theirs.encrypt(answer))
    socket.close()
    session.read(answer[:45]).read(answer[45:]).free()
    kernel.wait()

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 20
    assert not {"error.type", "otelbpf.response.incomplete"} & set(attributes(span))
    balanced(kernel)


def exchange_in_memory(
    kernel: FakeKernel,
    session: FakeSession,
    socket: FakeSocket,
    ours: End,
    theirs: End,
    *,
    serving: bool,
    size: int = 2,
) -> None:
    """One request as asyncio and node do it: the library first and then the socket, or the other way round."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"y" * size
    for data, outward in ((REQUEST, not serving), (answer, serving)):
        if outward:
            session.write(data)
            out = ours.encrypt(data)
            socket.send(out)
            theirs.receive(out)
            theirs.decrypt()
        else:
            out = theirs.encrypt(data)
            socket.receive(out)
            ours.receive(out)
            session.read(ours.decrypt())


@pytest.mark.parametrize("serving", [True, False])
@pytest.mark.parametrize("version", [V12, V13])
def test_memory_is_told_by_lengths(serving: bool, version: ssl.TLSVersion) -> None:
    """The socket is known after the first answer, and the first span has it already."""
    kernel = FakeKernel()
    socket = kernel.accept(pid=100) if serving else kernel.connect(pid=100)
    client, server = handshake_over(None, socket, version) if serving else handshake_over(socket, None, version)
    ours, theirs = (server, client) if serving else (client, server)
    session = FakeSession(kernel, pid=100)
    for _ in range(2):
        exchange_in_memory(kernel, session, socket, ours, theirs, serving=serving)
    kernel.wait()

    first, second = kernel.spans()
    for span in (first, second):
        assert attributes(span)["otelbpf.tls.evidence"] == "record_lengths"
        assert attributes(span)["network.peer.port"] == (40000 if serving else 80)
        assert attributes(span)["tls.protocol.version"] == ("1.2" if version is V12 else "1.3")
    assert kernel.source.muted == [socket.key]
    session.free()
    socket.close()
    balanced(kernel)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("waiting", [0, encryption.MAX_WAITING])
def test_it_is_all_the_same_how_many_records_come_at_once(
    size: int, joined: bool, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what tells the socket comes together with an exchange that could not wait for it."""
    monkeypatch.setattr(encryption, "MAX_WAITING", waiting)
    kernel = FakeKernel()
    socket = kernel.accept(pid=100, joined=joined)
    client, server = shake_hands()[:2] if joined else handshake_over(None, socket)
    session = FakeSession(kernel, pid=100, joined=joined)
    for _ in range(4):
        exchange_in_memory(kernel, session, socket, server, client, serving=True)
    kernel.wait()
    session.free()
    socket.close()
    kernel.finish()

    assert told(in_batches(kernel.records, size)[0]) == told(kernel.spans())


def test_memory_of_a_connection_that_was_open_before() -> None:
    """No handshake was seen: any cipher's lengths count."""
    kernel = FakeKernel()
    client, server, _ = shake_hands()
    socket = kernel.accept(pid=100, joined=True)
    session = FakeSession(kernel, pid=100, joined=True)
    for _ in range(3):
        exchange_in_memory(kernel, session, socket, server, client, serving=True)
    kernel.wait()

    spans = kernel.spans()
    assert [attributes(span)["otelbpf.tls.evidence"] for span in spans] == ["record_lengths"] * 3
    assert "tls.cipher" not in attributes(spans[0])


def test_what_counts_is_the_call_in_however_many_parts_it_is_told() -> None:
    """The record on the socket is as long as all of them, and not as long as any."""
    kernel = FakeKernel()
    socket = kernel.connect(pid=100)
    ours, theirs = handshake_over(socket, None)
    session = FakeSession(kernel, pid=100)
    head = b"POST /a HTTP/1.1\r\nHost: site.example\r\nContent-Length: 9000\r\n\r\n"
    session.write_in_parts((head + b"x" * 4000, len(head) + 5), (b"x" * 5000, 0))
    socket.send(ours.encrypt(head + b"x" * 9000))
    socket.receive(theirs.encrypt(ANSWER))
    session.read(ANSWER)
    kernel.wait()

    (span,) = kernel.spans()
    assert attributes(span)["http.request.body.size"] == 9000
    assert attributes(span)["otelbpf.tls.evidence"] == "record_lengths"
    session.free()
    socket.close()
    balanced(kernel)


@pytest.mark.parametrize("room", [7, 20])
def test_parts_of_a_record_are_no_record(room: int) -> None:
    """A session reads with little room what another socket of the thread has received records of, which nobody has read
    yet; its own socket is found all the same, by the whole."""
    kernel = FakeKernel()
    own, other = kernel.accept(pid=100, peer_port=41000), kernel.accept(pid=100, peer_port=41001)
    client, server = handshake_over(None, own)
    elsewhere, _ = handshake_over(None, other)
    session = FakeSession(kernel, pid=100)
    rest = len(REQUEST) % room
    for _ in range(8):
        for length in (room, rest):
            other.receive(elsewhere.encrypt(b"z" * length))
    for _ in range(3):
        out = client.encrypt(REQUEST)
        own.receive(out)
        server.receive(out)
        session.read(server.decrypt(), room=room)
        session.write(ANSWER)
    kernel.wait(2 * WAIT_NS)

    spans = [attributes(span) for span in kernel.spans()]
    assert [span["otelbpf.tls.evidence"] for span in spans] == ["record_lengths"] * 3
    assert {span["network.peer.port"] for span in spans} == {41000}


def test_many_connections_of_one_thread_never_take_each_others_sockets() -> None:
    """All say the same at the same time: whatever is told of a socket is true."""
    kernel = FakeKernel()
    talks = []
    for number in range(8):
        socket = kernel.accept(pid=100, peer_port=41000 + number)
        client, server = handshake_over(None, socket)
        talks.append((FakeSession(kernel, pid=100), socket, server, client, 41000 + number))
    for turn in range(3):
        arrived = []
        for session, socket, server, client, _ in talks:
            out = client.encrypt(b"GET /%d HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n" % (socket_port(socket), b"x" * turn))
            socket.receive(out)
            server.receive(out)
            arrived.append((session, socket, server))
        for session, _, server in reversed(arrived):
            session.read(server.decrypt())
        for session, socket, server in arrived:
            session.write(ANSWER)
            socket.send(server.encrypt(ANSWER))
    kernel.wait(WAIT_NS)
    kernel.wait(WAIT_NS)

    spans = [attributes(span) for span in kernel.spans()]
    assert len(spans) == 24
    for span in spans:
        if span["otelbpf.tls.evidence"] != "none":
            assert span["url.path"] == f"/{span['network.peer.port']}"
        else:
            assert "network.peer.port" not in span


def socket_port(socket: FakeSocket) -> int:
    return int.from_bytes(socket.endpoints[34:36], "little")


def test_equal_lengths_on_two_sockets_prove_nothing() -> None:
    """Plain text of one session, and two sockets that received as much: neither is believed."""
    kernel = FakeKernel()
    session = FakeSession(kernel, pid=100)
    sockets = [kernel.accept(pid=100, peer_port=41000 + number) for number in range(2)]
    for socket in sockets:
        handshake_over(None, socket)
    for _ in range(4):
        for socket in sockets:
            socket.receive(HEADER + (len(REQUEST) + 17).to_bytes(2, "big") + bytes(len(REQUEST) + 17))
        session.read(REQUEST)
        session.write(ANSWER)
    kernel.wait(2 * WAIT_NS)

    assert [attributes(span)["otelbpf.tls.evidence"] for span in kernel.spans()] == ["none"] * 4
    session.free()
    assert kernel.ledger.connections["tls_unattributed"] == 1


def test_without_a_socket_a_span_tells_no_peer() -> None:
    """It is told after a second, with what the plain text says."""
    kernel = FakeKernel()
    session = FakeSession(kernel, pid=100)
    session.read(REQUEST).write(ANSWER)
    kernel.wait(WAIT_NS // 2)
    assert kernel.spans() == []
    kernel.wait(WAIT_NS)

    (span,) = kernel.spans()
    told = attributes(span)
    assert told["otelbpf.tls.evidence"] == "none"
    assert told["url.scheme"] == "https"
    assert not [name for name in told if name.startswith(("network.peer", "network.local", "client."))]
    session.free()
    balanced(kernel)


def test_without_a_socket_nothing_is_told_where_addresses_were_asked_for() -> None:
    """--port 443: it may be another one's."""
    kernel = FakeKernel()
    kernel.put(encode.encode_host(Host(addressed_only=True), time_ns=kernel.now_ns))
    FakeSession(kernel, pid=100).read(REQUEST).write(ANSWER).free()

    assert kernel.spans() == []
    assert kernel.ledger.spans_lost[Lost.FILTERED] == 1
    balanced(kernel)


def test_a_request_of_unknown_address_that_is_open_at_the_end_is_left_out_too() -> None:
    """It is no more of the run that ends than its answer would have been."""
    kernel = FakeKernel()
    kernel.put(encode.encode_host(Host(addressed_only=True), time_ns=kernel.now_ns))
    FakeSession(kernel, pid=100).read(REQUEST)
    kernel.pipeline.finish()

    assert kernel.spans() == []
    assert kernel.ledger.spans_lost == {Lost.FILTERED: 1}


def test_what_waits_is_bounded() -> None:
    """A session whose socket is never found."""
    kernel = FakeKernel()
    session = FakeSession(kernel, pid=100)
    for _ in range(MAX_WAITING + 1):
        session.read(REQUEST).write(ANSWER)

    assert len(kernel.spans()) == MAX_WAITING + 1


def test_a_server_waits_for_its_client_to_be_read() -> None:
    """An asyncio client is found later than the server it asks: the server's span is its child all the same."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client_end, server_end = handshake_over(client, server)
    asking, answering = FakeSession(kernel, pid=client.pid), FakeSession(kernel, pid=server.pid)
    asking.write(REQUEST)
    out = client_end.encrypt(REQUEST)
    client.send(out)
    server.receive(out)
    answering.bind(server).read(REQUEST)
    back = server_end.encrypt(ANSWER)
    server.send(back)
    answering.write(ANSWER).free()
    server.close()
    client.receive(back)
    asking.read(ANSWER)
    kernel.wait()

    asked, served = sorted(kernel.spans(), key=lambda span: -span.kind)
    assert (served.trace_id, served.parent_id) == (asked.trace_id, asked.span_id)
    asking.free()
    client.close()
    balanced(kernel)


def test_a_server_names_no_parent_that_will_not_be_told() -> None:
    """The client's TLS cannot be read (Go, Java)."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client_end, _ = handshake_over(client, server)
    client.send(client_end.encrypt(REQUEST))
    answering = FakeSession(kernel, pid=server.pid).bind(server)
    answering.read(REQUEST).write(ANSWER)
    assert kernel.spans() == []
    kernel.wait(2 * WAIT_NS)
    answering.read(REQUEST).write(ANSWER)

    first, second = kernel.spans()
    assert first.parent_id == second.parent_id == b""
    client.close()
    assert kernel.ledger.connections["tls_not_read"] == 1


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


def test_a_lost_record_is_a_hole_in_the_plain_text() -> None:
    """The account of the plain text tells it by its reason."""
    kernel = FakeKernel()
    socket = kernel.accept()
    session = FakeSession(kernel, pid=socket.pid).bind(socket)
    session.read(REQUEST).write(ANSWER, lose=True).free()

    assert kernel.ledger.tls.unseen_bytes == {"ring_full": len(ANSWER), "hole": 0}
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


def test_a_socket_that_speaks_in_the_clear_carries_nobodys_tls() -> None:
    """Whatever was at work within the call: a callback's own connection."""
    kernel = FakeKernel()
    other = kernel.connect(pid=7, port=40001)
    other.send(REQUEST)
    session = FakeSession(kernel, pid=7).bind(other)
    session.write(REQUEST).read(ANSWER).free()
    other.receive(ANSWER)

    secured, plain = kernel.spans()
    assert attributes(plain)["url.scheme"] == "http"
    assert "otelbpf.tls.evidence" not in attributes(plain)
    assert attributes(secured)["otelbpf.tls.evidence"] == "none"
    assert "network.peer.port" not in attributes(secured)
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
