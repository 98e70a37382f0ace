"""HTTP/1 in all its shapes, byte for byte on real sockets: each conversation gives exactly the spans it must."""

from __future__ import annotations

import socket
import struct

import pytest

from integration.harness.cases import Case, Played, register
from integration.harness.talk import Talk, chunked, pass_on, response

CASES: dict[str, Case] = {}
case = register(CASES)


@case
def plain(talk: Talk) -> None:
    """One request, one answer."""
    client, server = talk.connect()
    pass_on(talk.request("/a?q=1", method="POST", body=b"x" * 10), client, server)
    pass_on(response(200, b"y" * 20), server, client)
    talk.expect("/a?q=1", method="POST", request_size=10, response_size=20)


@case
def pipelined(talk: Talk) -> None:
    """Five requests in one write, five answers in one write: paired in order."""
    client, server = talk.connect()
    pass_on(b"".join(talk.request(f"/{n}") for n in range(5)), client, server)
    statuses = (200, 404, 201, 503, 206)
    pass_on(b"".join(response(status, b"y" * n) for n, status in enumerate(statuses)), server, client)
    for n, status in enumerate(statuses):
        talk.expect(f"/{n}", status=status, response_size=n)


@case
def pipelined_behind_bodies(talk: Talk) -> None:
    """Heads that lie behind bodies within one write."""
    client, server = talk.connect()
    for turn in range(3):
        asked = [talk.request(f"/{turn}{n}", method="POST", body=b"x" * 1500) for n in range(3)]
        pass_on(b"".join(asked), client, server)
        pass_on(b"".join(response(200, b"y" * 1700) for _ in range(3)), server, client)
        for n in range(3):
            talk.expect(f"/{turn}{n}", method="POST", request_size=1500, response_size=1700)


@case
def byte_by_byte(talk: Talk) -> None:
    """Heads and bodies that arrive one byte at a time."""
    client, server = talk.connect()
    for n in range(2):
        pass_on(talk.request(f"/{n}", method="PUT", body=b"x" * 5), client, server, step=1)
        pass_on(response(200, b"y" * 7), server, client, step=1)
        talk.expect(f"/{n}", method="PUT", request_size=5, response_size=7)


@case
def continued(talk: Talk) -> None:
    """100 Continue is not the answer."""
    client, server = talk.connect()
    head = talk.request("/a", method="POST", Expect="100-continue", Content_Length="3000")
    pass_on(head, client, server)
    pass_on(b"HTTP/1.1 100 Continue\r\n\r\n", server, client)
    pass_on(b"x" * 3000, client, server)
    pass_on(response(201, b"y"), server, client)
    talk.expect("/a", method="POST", status=201, request_size=3000, response_size=1)


@case
def not_wanted(talk: Talk) -> None:
    """A final answer instead of 100 Continue: the body does not come, and the next request is its own (as curl goes on
    after 417)."""
    client, server = talk.connect()
    for n, framing in enumerate(("Content-Length: 3000", "Transfer-Encoding: chunked")):
        head = talk.request(f"/{n}", method="POST", Expect="100-continue")
        pass_on(head[:-2] + framing.encode() + b"\r\n\r\n", client, server)
        pass_on(response(417), server, client)
        pass_on(talk.request(f"/{n}/again", method="POST", body=b"x" * 3000), client, server)
        pass_on(response(200, b"y"), server, client)
        talk.expect(f"/{n}", method="POST", status=417)
        talk.expect(f"/{n}/again", method="POST", request_size=3000, response_size=1)


@case
def interim_answers(talk: Talk) -> None:
    """102 and 103 with headers, also in one write with the final answer."""
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    pass_on(b"HTTP/1.1 102 Processing\r\n\r\n", server, client)
    pass_on(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", server, client)
    pass_on(response(200, b"y" * 4), server, client)
    pass_on(talk.request("/b"), client, server)
    pass_on(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n" + response(404, b"no"), server, client)
    talk.expect("/a", response_size=4)
    talk.expect("/b", status=404, response_size=2)


@case
def upgraded(talk: Talk) -> None:
    """After 101 the connection is opaque, whatever its bytes look like."""
    client, server = talk.connect()
    pass_on(talk.request("/ws", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="x"), client, server)
    pass_on(response(101, length=False, Connection="Upgrade", Upgrade="websocket"), server, client)
    pass_on(b"\x81\x05hello", client, server)
    pass_on(talk.request("/not-a-request"), client, server)
    pass_on(response(200, b"not an answer"), server, client)
    talk.expect("/ws", status=101, response_size=None)


@case
def tunnelled(talk: Talk) -> None:
    """After 2xx to CONNECT the connection is opaque; its target is an authority, no path."""
    client, server = talk.connect()
    pass_on(b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nUser-Agent: talk/1\r\n\r\n", client, server)
    pass_on(b"HTTP/1.1 200 Connection established\r\n\r\n", server, client)
    pass_on(talk.request("/inside"), client, server)
    pass_on(response(200, b"inside"), server, client)
    talk.expect(method="CONNECT", path="", response_size=None, server_address="db.example", server_port=5432)


@case
def tunnel_refused(talk: Talk) -> None:
    """A CONNECT that is refused leaves the connection as it was."""
    client, server = talk.connect()
    pass_on(b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nUser-Agent: talk/1\r\n\r\n", client, server)
    pass_on(response(407, b"no"), server, client)
    pass_on(talk.request("/after"), client, server)
    pass_on(response(200, b"yes"), server, client)
    talk.expect(method="CONNECT", path="", status=407, response_size=2, server_address="db.example", server_port=5432)
    talk.expect("/after", response_size=3)


@case
def without_bodies(talk: Talk) -> None:
    """HEAD, 204, 205 and 304 have no body, whatever their Content-Length says."""
    client, server = talk.connect()
    for n, (method, status, length) in enumerate(
        [("HEAD", 200, "1234"), ("GET", 204, ""), ("GET", 304, "99"), ("HEAD", 404, "50"), ("POST", 205, "0")]
    ):
        pass_on(talk.request(f"/{n}", method=method), client, server)
        answer = response(status, length=False, Content_Length=length) if length else response(status, length=False)
        pass_on(answer, server, client)
        talk.expect(f"/{n}", method=method, status=status)
    pass_on(talk.request("/head-chunked", method="HEAD"), client, server)
    pass_on(response(200, length=False, Transfer_Encoding="chunked"), server, client)
    talk.expect("/head-chunked", method="HEAD")
    pass_on(talk.request("/last"), client, server)
    pass_on(response(200, b"y"), server, client)
    talk.expect("/last", response_size=1)


@case
def chunked_both_ways(talk: Talk) -> None:
    """Chunks with extensions and trailers; sizes count the content, not the coding."""
    client, server = talk.connect()
    for n, size in enumerate((0, 1, 999, 5000)):
        pieces = [b"x" * size] if size else []
        body = chunked(pieces, extension=';name="va;lue"', trailers="Trailer-Field: 1\r\nOther: 2\r\n")
        pass_on(talk.request(f"/{n}", method="POST", Transfer_Encoding="chunked") + body, client, server)
        pass_on(response(200, length=False, Transfer_Encoding="Chunked") + body, server, client, step=1_001)
        talk.expect(f"/{n}", method="POST", request_size=size, response_size=size)


@case
def chunks_beyond_the_limit(talk: Talk) -> None:
    """Where the coding itself is not copied, the size of the content is told rightly or not at all, and what follows on
    the connection is whole."""
    client, server = talk.connect()
    for n in range(2):
        pass_on(talk.request(f"/{n}"), client, server)
        pass_on(response(200, length=False, Transfer_Encoding="chunked"), server, client)
        for _ in range(300):
            pass_on(b"64\r\n" + b"y" * 100 + b"\r\n", server, client)
        pass_on(b"0\r\n\r\n", server, client)
        talk.expect(f"/{n}", response_size=30_000, framing_beyond=True)
    body = chunked([b"x" * 40_000], extension=";a", trailers="Trailer-Field: 1\r\n")
    pass_on(talk.request("/trailers", method="POST", Transfer_Encoding="chunked") + body, client, server)
    pass_on(response(200, length=False, Transfer_Encoding="chunked") + body, server, client, step=7_001)
    talk.expect("/trailers", method="POST", request_size=40_000, response_size=40_000, framing_beyond=True)
    pass_on(talk.request("/last"), client, server)
    pass_on(response(200, b"y"), server, client)
    talk.expect("/last", response_size=1)


@case
def until_close(talk: Talk) -> None:
    """A body that ends with the connection, in HTTP/1.0 and 1.1."""
    for version in ("1.0", "1.1"):
        client, server = talk.connect()
        pass_on(talk.request(f"/{version}", version=version), client, server)
        pass_on(response(200, b"y" * 20_000, length=False, version=version), server, client)
        talk.expect(f"/{version}", response_size=20_000, version=version)
        server.close()
        assert client.recv(1) == b""
        client.close()


@case
def kept_alive_in_1_0(talk: Talk) -> None:
    """HTTP/1.0 with keep-alive carries several requests."""
    client, server = talk.connect()
    for n in range(3):
        pass_on(talk.request(f"/{n}", version="1.0", Connection="keep-alive"), client, server)
        pass_on(response(200, b"y" * n, version="1.0", Connection="keep-alive"), server, client)
        talk.expect(f"/{n}", response_size=n, version="1.0")


@case
def any_method(talk: Talk) -> None:
    """A method is any token; one the conventions do not know is _OTHER and told in http.request.method_original."""
    client, server = talk.connect()
    for method in ("TRACE", "PATCH", "QUERY", "PROPFIND", "BREW", "M-SEARCH", "get", "!#$%&'*+.^_`|~9"):
        pass_on(talk.request(f"/{len(talk.expected)}", method=method), client, server)
        pass_on(response(200, b"y"), server, client)
        talk.expect(f"/{len(talk.expected)}", method=method, response_size=1)


@case
def absolute_form(talk: Talk) -> None:
    """A request to a proxy names the whole URL, which wins over Host."""
    client, server = talk.connect()
    target = f"http://user:pass@site.example:8080{talk.prefix}/a?b=c"
    pass_on(f"GET {target} HTTP/1.1\r\nHost: other.example\r\nUser-Agent: talk/1\r\n\r\n".encode(), client, server)
    pass_on(response(200, b"y"), server, client)
    talk.expect(
        "/a?b=c", response_size=1, server_address="site.example", server_port=8080, user_info="REDACTED:REDACTED@"
    )


@case
def asterisk_form(talk: Talk) -> None:
    """OPTIONS * asks of the server as a whole."""
    client, server = talk.connect()
    pass_on(f"OPTIONS * HTTP/1.1\r\nHost: {talk.host}\r\nUser-Agent: talk/1\r\n\r\n".encode(), client, server)
    pass_on(response(204, length=False), server, client)
    talk.expect(method="OPTIONS", status=204, client__path="", server__path="*")


@case
def answered_before_the_end(talk: Talk) -> None:
    """The answer is there before the request is whole; the next request is its own."""
    client, server = talk.connect()
    asked = talk.request("/early", method="POST", body=b"x" * 9000)
    pass_on(asked[:-5000], client, server)
    pass_on(response(413, b"too much"), server, client)
    pass_on(asked[-5000:] + talk.request("/next"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/early", method="POST", status=413, request_size=9000, response_size=8)
    talk.expect("/next")


@case
def half_closed(talk: Talk) -> None:
    """A client that sends no more still gets its answer."""
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    pass_on(response(200, b"y" * 9), server, client)
    server.close()
    talk.expect("/a", response_size=9)


@case
def client_leaves(talk: Talk) -> None:
    """A client that closes before its answer comes: a span that says so, on both sides."""
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    talk.expect("/a", status=0, error_type="connection_closed", response_size=None)
    client.close()
    assert server.recv(1) == b""
    server.close()


@case
def client_leaves_within_its_body(talk: Talk) -> None:
    """A client that closes within its request."""
    client, server = talk.connect()
    pass_on(talk.request("/a", method="POST", Content_Length="500") + b"x" * 200, client, server)
    talk.expect(
        "/a",
        method="POST",
        status=0,
        error_type="connection_closed",
        request_size=200,
        response_size=None,
        incomplete=("closed", ""),
    )
    client.close()
    assert server.recv(1) == b""
    server.close()


@case
def server_leaves(talk: Talk) -> None:
    """A server that closes without an answer, and one that closes within it."""
    client, server = talk.connect()
    pass_on(talk.request("/none"), client, server)
    talk.expect("/none", status=0, error_type="connection_closed", response_size=None)
    server.close()
    assert client.recv(1) == b""
    client.close()
    client, server = talk.connect()
    pass_on(talk.request("/half"), client, server)
    pass_on(response(200, length=False, Content_Length="100") + b"y" * 60, server, client)
    talk.expect("/half", error_type="connection_closed", response_size=60, incomplete=("", "closed"))
    server.close()
    assert client.recv(1) == b""
    client.close()


@case
def reset(talk: Talk) -> None:
    """A connection reset by the client while it waits: for itself it just closed, for the server it was an error."""
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    errors = {"client__error_type": "connection_closed", "server__error_type": "ECONNRESET"}
    talk.expect("/a", status=0, response_size=None, **errors)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    server.close()


@case
def empty_lines_first(talk: Talk) -> None:
    """Empty lines before a request line are to be ignored (RFC 9112 section 2.2)."""
    client, server = talk.connect()
    for n in range(2):
        pass_on(b"\r\n\r\n" + talk.request(f"/{n}"), client, server)
        pass_on(response(200, b"y"), server, client)
        talk.expect(f"/{n}", response_size=1)


@case
def long_head(talk: Talk) -> None:
    """A head within the copy limit is read whole, a header at its very end included."""
    client, server = talk.connect()
    pass_on(talk.request("/a", X_Long="v" * 7000, Content_Length="3") + b"xxx", client, server)
    pass_on(response(200, b"y" * 5, X_Long="w" * 7000), server, client)
    talk.expect("/a", request_size=3, response_size=5)


@case
def head_beyond_the_limit(talk: Talk) -> None:
    """A head longer than what is copied: still a span, and one that says so."""
    client, server = talk.connect()
    pass_on(talk.request("/a", X_Long="v" * 20_000), client, server)
    pass_on(response(200, b"y" * 5), server, client)
    pass_on(talk.request("/b"), client, server)
    pass_on(response(200, b"y" * 6), server, client)
    talk.expect("/a", request_size=None, response_size=5, incomplete=("head_beyond_limit", ""))
    talk.expect("/b", response_size=6)


@case
def over_ipv6(talk: Talk) -> None:
    """The same over IPv6: brackets in the URL, none in the addresses."""
    talk.listen("v6")
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/a")


@case
def dual_stack(talk: Talk) -> None:
    """An IPv6 socket that carries IPv4 is told as IPv4."""
    talk.listen("v4", dual_stack=True)
    client, server = talk.connect()
    pass_on(talk.request("/a"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/a")


@case
def not_http(talk: Talk) -> None:
    """Other protocols make no span, nor do TLS, HTTP/2 with prior knowledge and what merely begins like a request."""
    for hello in (
        b"\x00\x01\x02binary" * 50,
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"GET key\r\n",
        b"SELECT * FROM t;\n",
    ):
        client, server = talk.connect()
        for _ in range(5):
            pass_on(hello, client, server)
            pass_on(b"+OK\r\n", server, client)
        client.close()
        server.close()


@case
def named_host(talk: Talk) -> None:
    """server.address is what the request names, network.peer.address who it went to."""
    client, server = talk.connect()
    for n, (host, name, port) in enumerate(
        [
            ("Api.Example:81", "Api.Example", 81),
            ("api.example", "api.example", 80),
            ("[2001:db8::1]:9", "2001:db8::1", 9),
        ]
    ):
        pass_on(talk.request(f"/{n}", Host=host), client, server)
        pass_on(response(200), server, client)
        talk.expect(f"/{n}", server_address=name, server_port=port)


@case
def forwarded(talk: Talk) -> None:
    """Behind a proxy the client is the one it forwards for, the host and the scheme those it was asked with."""
    client, server = talk.connect()
    pass_on(talk.request("/a", X_Forwarded_For="192.0.2.7, 10.0.0.1", X_Forwarded_Proto="https"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/a", server__client_address="192.0.2.7", server__scheme="https")
    pass_on(talk.request("/b", Forwarded='for="192.0.2.8:99";host=shop.example;proto=https'), client, server)
    pass_on(response(200), server, client)
    talk.expect(
        "/b",
        server__client_address="192.0.2.8",
        server__scheme="https",
        server__server_address="shop.example",
        server__server_port=443,
    )


@case
def trace_context(talk: Talk) -> None:
    """traceparent on a request gives the trace and the parent; a malformed one counts for nothing."""
    client, server = talk.connect()
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    pass_on(talk.request("/a", traceparent=f"00-{trace}-{parent}-01", tracestate="v=1"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/a", trace_id=trace, parent_id=parent)
    pass_on(talk.request("/b", traceparent=f"00-{'0' * 32}-{parent}-01"), client, server)
    pass_on(response(200), server, client)
    talk.expect("/b", client__parent_id="")
    pass_on(talk.request("/unsampled", traceparent=f"00-{trace}-{parent}-00"), client, server)
    pass_on(response(200), server, client)


UNSAMPLED = 2
"""Spans that `trace_context` asks not to record: one a side."""


@pytest.mark.parametrize("name", CASES)
def test_conversation(name: str, played: Played) -> None:
    """Exactly the spans this conversation must give."""
    # A request that goes on after its answer ends later for its receiver than for its sender.
    played.assert_equal(name, linked=name != "trace_context", within=name != "answered_before_the_end")


def test_the_balance(played: Played) -> None:
    """Nothing of all this was lost but what asked not to be recorded, and every byte is accounted for."""
    played.sheet.assert_balanced()
    assert played.sheet.lost == {"sampled_out": UNSAMPLED}
