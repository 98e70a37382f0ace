"""Sockets that carry more than the plain text of one session: tunnels, TLS within TLS, processes that fork."""

from __future__ import annotations

from otelbpf.tls.encryption import WAIT_NS
from tests.fake_kernel import FakeKernel, FakeSocket, attributes
from tests.fake_tls import FakeSession
from tests.h2_talk import Talk
from tests.tls.test_encryption import ANSWER, REQUEST, balanced, handshake_over

CONNECT = b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
EVIDENCE = "otelbpf.tls.evidence"


def told_of_tls(told: dict[str, object]) -> set[str]:
    return {name for name in told if name.startswith("tls.")}


def exchange_within(kernel: FakeKernel, socket: FakeSocket) -> FakeSession:
    """A session whose every byte goes through what its socket carries already."""
    return FakeSession(kernel, pid=socket.pid).bind(socket).write(REQUEST).read(ANSWER)


def test_tls_within_tls() -> None:
    """curl and a proxy that is spoken to by https: the handshake on the socket is the proxy's, and so are the ends."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client_end, server_end = handshake_over(client, server)
    asking, answering = FakeSession(kernel, pid=client.pid), FakeSession(kernel, pid=server.pid)
    client.send(client_end.encrypt(CONNECT))
    asking.bind(client).write(CONNECT)
    answer = server_end.encrypt(ESTABLISHED)
    client.receive(answer)
    asking.read(ESTABLISHED)
    inner = exchange_within(kernel, client)
    # The proxy is slow to be heard of.
    server.receive(client_end.encrypt(CONNECT))
    answering.bind(server).read(CONNECT)
    server.send(answer)
    answering.write(ESTABLISHED)
    kernel.wait(2 * WAIT_NS)

    by_method = {(attributes(span)["http.request.method"], int(span.kind)): span for span in kernel.spans()}
    assert sorted(by_method) == [("CONNECT", 2), ("CONNECT", 3), ("GET", 3)]
    asked, served, within = by_method["CONNECT", 3], by_method["CONNECT", 2], by_method["GET", 3]
    assert (served.trace_id, served.parent_id) == (asked.trace_id, asked.span_id)
    assert within.trace_id != asked.trace_id
    assert within.span_id != asked.span_id
    assert attributes(asked)["tls.client.server_name"] == "site.example"
    assert told_of_tls(attributes(within)) == set()
    assert attributes(within)[EVIDENCE] == "nested_call"
    assert attributes(within)["network.peer.port"] == 80
    for session in (inner, asking, answering):
        session.free()
    client.close()
    server.close()
    balanced(kernel)


def test_tls_through_a_tunnel() -> None:
    """CONNECT in the clear: offsets of the session are not those of the socket, so no span of the other end is met."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    client.send(CONNECT)
    server.receive(CONNECT, lose=True).send(ESTABLISHED)
    client.receive(ESTABLISHED)
    inner = exchange_within(kernel, client)
    kernel.wait(2 * WAIT_NS)

    connect, within = kernel.spans()
    assert attributes(connect)["http.request.method"] == "CONNECT"
    assert attributes(within)["url.full"] == "https://site.example/a"
    assert attributes(within)[EVIDENCE] == "nested_call"
    assert attributes(within)["network.peer.port"] == 80
    assert within.span_id != connect.span_id
    inner.free()
    client.close()
    server.close()
    balanced(kernel)


def test_a_process_that_forks() -> None:
    """Its child goes on with the session, and leaves without a word; that the parent lets go means nothing."""
    kernel = FakeKernel()
    socket = kernel.accept(pid=100)
    client_end, server_end = handshake_over(None, socket)
    parent = FakeSession(kernel, pid=100)
    socket.receive(client_end.encrypt(REQUEST))
    parent.bind(socket).read(REQUEST)
    socket.send(server_end.encrypt(ANSWER))
    parent.write(ANSWER)
    child = FakeSession(kernel, pid=101, joined=True)
    child.bind(socket).read(REQUEST)
    parent.free()
    child.write(b"HTTP/1.1 200 OK\r\n\r\nall there is")
    socket.close()
    kernel.wait(2 * WAIT_NS)

    by_parent, by_child = kernel.spans()
    for span in (by_parent, by_child):
        assert attributes(span)[EVIDENCE] == "nested_call"
        assert attributes(span)["tls.protocol.version"] == "1.3"
    assert attributes(by_child)["http.response.body.size"] == len(b"all there is")
    assert "error.type" not in attributes(by_child)
    balanced(kernel)


def test_a_socket_that_speaks_http2_in_the_clear_carries_nobodys_tls() -> None:
    """A callback's connection was at work within the call: it goes on being read."""
    kernel = FakeKernel()
    talk = Talk(kernel, client=True)
    number = talk.ask("/clear")
    session = FakeSession(kernel, pid=talk.socket.pid).bind(talk.socket).write(REQUEST).read(ANSWER)
    talk.answer(number)
    session.free()
    kernel.wait(2 * WAIT_NS)

    by_scheme = {str(attributes(span)["url.scheme"]): attributes(span) for span in kernel.spans()}
    assert sorted(by_scheme) == ["http", "https"]
    assert EVIDENCE not in by_scheme["http"]
    assert by_scheme["https"][EVIDENCE] == "none"
    assert talk.socket.key not in kernel.source.muted
    talk.socket.close()
    balanced(kernel)
