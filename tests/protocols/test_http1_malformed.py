"""Requests that are none by the rules, and are answered all the same; and what is no message at all."""

from __future__ import annotations

import pytest

from otelbpf.protocols.base import Gap, Incomplete, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import Listener
from tests.protocols.test_http1 import GET, OK, C, S, told

MALFORMED = [
    (b"GET /\r\n\r\n", ("", "", "")),
    (b"GET /a b HTTP/1.1\r\n\r\n", ("", "", "")),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", ("", "", "")),
    (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", ("GET", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999999\r\n\r\n", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ("POST", "/", "1.1")),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnone\r\n\r\n", ("POST", "/", "1.1")),
    (b"GET / HTTP/1.0\nHost : h\n\n", ("GET", "/", "1.0")),
    (b"GET / HTTP/1.1\r\n\0: h\r\n\r\n", ("GET", "/", "1.1")),
    (b"\0", ("", "", "")),
    (b"\rX", ("", "", "")),
    (b" GET / HTTP/1.1\r\n\r\n", ("", "", "")),
]


@pytest.mark.parametrize(("data", "line"), MALFORMED)
def test_what_is_no_request_is_answered_all_the_same(data: bytes, line: tuple[str, str, str]) -> None:
    """Whole, or byte by byte, behind another request: told as far as its first line is one, and nothing behind it."""
    for size in (len(data), 1):
        listener = Listener().receive(C, GET)
        for i in range(0, len(data), size):
            listener.receive(C, data[i : i + size])
        listener.receive(C, GET).receive(S, OK).receive(S, b"HTTP/1.1 400 No\r\nContent-Length: 1\r\n\r\nx")

        assert listener.error is None
        first, request, answer, refusal = sorted(listener.messages, key=lambda m: (m.side, m.begin))
        assert (told(first), told(answer)) == (("GET", "/", len(GET), 0), ("GET", 200, len(OK), 2))
        assert (request.method, request.target, request.version) == line
        assert (request.incomplete, request.body_size) == (Incomplete.MALFORMED, -1)
        assert request.begin == len(GET) + (data == b"\rX" and size == 1)
        assert request.end == 2 * len(GET) + len(data)
        assert (refusal.method, refusal.status, refusal.body_size) == (line[0], 400, 1)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET /a b HTTP/1.1\r\n\r\n", OK),  # it was understood, so what it was is not known
        (b"HEAD / HTTP/1.1\r\nHost : h\r\n\r\n", b""),  # nor whether the answer has a body
        (b"HEAD /a b HTTP/1.1\r\n\r\n", b""),
    ],
)
def test_a_malformed_request_whose_answer_cannot_be_told_ends_the_parser(data: bytes, answer: bytes) -> None:
    """Two explanations remain."""
    listener = Listener().receive(C, data)
    if answer:
        assert listener.error is None
        listener.receive(S, answer)
    assert listener.error is not None
    assert [message for message in listener.messages if message.side is S] == []


def test_a_malformed_body_of_a_request_that_is_answered_ends_it() -> None:
    """Its answer came early: nothing is left to wait for."""
    parser = Http1()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    (request,) = parser.receive(C, head)
    parser.receive(S, OK)
    assert parser.receive(C, b"x\r\n") == [request]
    assert (request.end, request.body_size, request.incomplete) == (len(head), -1, Incomplete.MALFORMED)


def test_bytes_lost_behind_a_malformed_request_end_the_parser() -> None:
    """There may have been an answer to wait for; what was left out deliberately hides none."""
    listener = Listener().receive(C, b"GET /\r\n\r\n")
    listener.take(lambda: listener.parser.lose(C, Gap(5, deliberate=True)))
    assert listener.error is None
    listener.take(lambda: listener.parser.lose(C, Gap(5, deliberate=False)))
    assert listener.error is not None


@pytest.mark.parametrize("data", [b"what is this\r\n", b"GET / HTTP/1.1\r\nHost : h\r\nA", b"\x80\x81"])
def test_an_answer_to_the_beginning_of_what_is_no_request_announces_it(data: bytes) -> None:
    """400: what was seen of the head is refused, and the rest cannot mend it."""
    parser = Http1()
    assert parser.receive(C, data) == []
    request, answer = parser.receive(S, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert told(request) == (*(("GET", "/") if data[:1] == b"G" else ("", 0)), len(data), -1)
    assert (request.incomplete, answer.status) == (Incomplete.MALFORMED, 400)


def test_an_answer_to_the_beginning_of_what_may_be_a_head_ends_the_parser() -> None:
    """Of HEAD, say: the body of the answer may not come."""
    listener = Listener().receive(C, b"HEAD / HTTP/1.1\r\nHost : h\r\nA")
    listener.receive(S, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert (listener.messages, listener.error is None) == ([], False)


@pytest.mark.parametrize("data", [b"what is this\r\n", b"GET / HTTP/1.1\r\nHost : h\r\nA"])
def test_half_a_head_that_is_no_request_is_announced_by_the_close(data: bytes) -> None:
    """Its whole lines are judged as those of any head."""
    listener = Listener().receive(C, data).close()
    (request,) = listener.messages
    assert (request.incomplete, request.end, listener.error) == (Incomplete.MALFORMED, len(data), None)


def test_half_a_head_of_which_nothing_can_be_told_is_refused_by_the_close() -> None:
    """Of HEAD, say."""
    listener = Listener().receive(C, b"HEAD / HTTP/1.1\r\nHost : h\r\nA")
    assert listener.error is None
    listener.close()
    assert (listener.messages, listener.error is None) == ([], False)


REFUSED = [
    (S, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (S, b"HTTP/1.1 099 No\r\n\r\n"),
    (S, b"HTTP/2.0 200 OK\r\n\r\n"),
    (S, b"hello\r\n\r\n"),
]


@pytest.mark.parametrize(("side", "data"), REFUSED)
def test_what_is_no_message_ends_the_parser(side: Side, data: bytes) -> None:
    """Whole, or byte by byte; and from then on nothing is taken."""
    whole = Listener().receive(side, data)
    single = Listener()
    for i in range(len(data)):
        single.receive(side, data[i : i + 1])

    assert whole.error is not None
    assert single.error is not None
    assert whole.messages == single.messages
    with pytest.raises(ProtocolError):
        whole.parser.receive(Side.CLIENT, GET)
    with pytest.raises(ProtocolError):
        whole.parser.lose(Side.SERVER, Gap(1, deliberate=True))
    assert whole.parser.close(side) == []


def test_what_came_before_an_error_is_told_with_it() -> None:
    """Two responses and garbage in one write."""
    parser = Http1()
    parser.receive(C, GET + GET + GET)
    with pytest.raises(ProtocolError) as caught:
        parser.receive(S, OK + OK + b"garbage\r\n\r\n")
    assert [message.begin for message in caught.value.messages] == [0, len(OK)]
