"""Where a connection leaves HTTP: upgrades and tunnels, taken up or refused."""

from __future__ import annotations

import pytest

from otelbpf.protocols.base import Gap, Incomplete, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import Listener

C, S = Side.CLIENT, Side.SERVER
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECT = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"
WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_after_101_both_sides_are_opaque() -> None:
    """The response is the last message; what follows in the same write is no HTTP either."""
    parser = Http1()
    (request,) = parser.receive(C, WEBSOCKET)
    assert not parser.opaque
    (response,) = parser.receive(S, SWITCHING + b"\x81\x05hello")
    assert (response.status, response.upgrade, response.end, response.body_size) == (101, True, len(SWITCHING), 0)
    assert request.end == len(WEBSOCKET)
    assert parser.opaque
    assert parser.receive(C, b"\x81\x85" + GET) == []
    assert parser.receive(S, OK) == []
    assert parser.lose(C, Gap(100, deliberate=False)) == []
    assert parser.close(C) == parser.close(S) == []
    assert parser.needed_from(C) == len(WEBSOCKET) + 2 + len(GET) + 100


def test_an_upgrade_that_is_not_taken_up_stays_http() -> None:
    """200 to an Upgrade request, then the next exchange."""
    parser = Http1()
    parser.receive(C, WEBSOCKET)
    (response,) = parser.receive(S, OK)
    assert (response.upgrade, parser.opaque) == (False, False)
    assert [m.target for m in parser.receive(C, GET)] == ["/"]
    assert [m.method for m in parser.receive(S, OK)] == ["GET"]


def test_an_upgrade_waits_for_the_end_of_its_request() -> None:
    """RFC 9110 section 7.8: the body is HTTP, what follows it is not."""
    parser = Http1()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nUpgrade: u\r\nConnection: upgrade\r\nContent-Length: 4\r\n\r\n"
    (request,) = parser.receive(C, head + b"ab")
    parser.receive(S, SWITCHING)
    assert not parser.opaque
    assert parser.receive(C, b"cd\x00\x01") == [request]
    assert (request.end, request.body_size, parser.opaque) == (len(head) + 4, 4, True)


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_tunnel_begins_behind_a_2xx_to_connect(framing: bytes) -> None:
    """Framing headers in it mean nothing (RFC 9112 section 6.3 rule 2); early bytes of the client are the tunnel's."""
    parser = Http1()
    (request,) = parser.receive(C, CONNECT)
    assert (request.target, request.end) == ("h:443", len(CONNECT))
    assert parser.receive(C, b"\x16\x03\x01") == []
    head = b"HTTP/1.1 200 Connection established\r\n" + framing + b"\r\n"
    (response,) = parser.receive(S, head + b"\x16\x03\x03")
    assert (response.upgrade, response.end, response.body_size) == (True, len(head), 0)
    assert parser.opaque


def test_what_follows_a_refused_connect_is_http() -> None:
    """Requests sent without waiting, in pieces, are held until the answer tells what they are."""
    parser = Http1()
    (connect,) = parser.receive(C, CONNECT + GET[:9])
    assert parser.needed_from(C) == len(CONNECT)
    assert parser.receive(C, GET[9:] + HEAD[:4]) == []
    assert parser.receive(S, b"HTTP/1.1 100 Continue\r\n\r\n") == []
    refused, get = parser.receive(S, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (refused.method, refused.status) == ("CONNECT", 403)
    assert (get.begin, get.end) == (connect.end, connect.end + len(GET))
    (head,) = parser.receive(C, HEAD[4:])
    assert (head.method, head.begin) == ("HEAD", get.end)


def test_held_requests_survive_the_clients_close() -> None:
    """A client that asks for a tunnel, sends on and shuts down its side."""
    parser = Http1()
    parser.receive(C, CONNECT + GET)
    assert parser.close(C) == []
    refused, get = parser.receive(S, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (refused.status, get.method) == (403, "GET")


@pytest.mark.parametrize("how", ["too much", "lost", "not copied"])
def test_what_could_not_be_held_costs_only_a_refused_tunnel(how: str) -> None:
    """A tunnel does not need it; requests would be missed."""
    answers = {b"HTTP/1.1 200 OK\r\n\r\n": False, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n": True}
    for answer, fails in answers.items():
        listener = Listener(Http1(head_limit=100)).receive(C, CONNECT)
        if how == "too much":
            listener.receive(C, bytes(200)).receive(C, bytes(50))
        else:
            listener.take(lambda: listener.parser.lose(C, Gap(200, deliberate=how == "not copied")))  # noqa: B023
        listener.receive(S, answer)
        assert (listener.error is not None) is fails
        assert [m.method for m in listener.messages] == ["CONNECT", "CONNECT"]


def test_a_connect_may_have_a_body() -> None:
    """By its headers; refused in the middle of it, or behind it, what follows is HTTP."""
    for early in (0, 3, 5):
        parser = Http1()
        head = CONNECT[:-2] + b"Content-Length: 5\r\n\r\n"
        (connect,) = parser.receive(C, head + b"hello"[:early])
        (refused,) = parser.receive(S, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        found = parser.receive(C, b"hello"[early:] + GET)
        assert [m.begin for m in found[-1:]] == [connect.end]
        assert (connect.end, connect.body_size, refused.method) == (len(head) + 5, 5, "CONNECT")


def test_a_switch_cuts_off_a_request_whose_head_is_not_complete() -> None:
    """Nobody switches before the request is complete; if it happens, the request says what it lacks."""
    parser = Http1()
    parser.receive(C, b"GET / HTTP/1.1\r\nHost: h\r\nUpg")
    request, response, ended = parser.receive(S, SWITCHING)
    assert ended is request
    assert (request.end, request.incomplete, response.upgrade) == (28, Incomplete.CLOSED, True)
    assert parser.opaque
