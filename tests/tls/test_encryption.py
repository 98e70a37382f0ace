"""Plain text and ciphertext of one connection: what its spans say, what waits for what, and both accounts."""

from __future__ import annotations

import ssl

import pytest

from otelbpf.events import encode
from otelbpf.events.types import Host
from otelbpf.telemetry.ledger import Lost
from otelbpf.tls import encryption
from otelbpf.tls.encryption import MAX_WAITING, WAIT_NS
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
