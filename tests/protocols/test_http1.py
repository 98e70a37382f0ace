"""The cases of RFC 9110 and RFC 9112 one by one, with exact expectations, and the parser's own decisions."""

from __future__ import annotations

import pytest

from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import Listener

C, S = Side.CLIENT, Side.SERVER
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def told(message: Message) -> tuple[object, ...]:
    """Who, what, where it ends and how large its body is."""
    return message.method, message.target or message.status, message.end, message.body_size


RESPONSES = [
    # method, response, size of its body, what of it is the message's
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", 0),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello", 5),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", b"hello", 5),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", b"hello", 5),
    ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", 5),
    (
        "GET",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:CHUNKED\r\n\r\n",
        b"A;x=y;z\r\n0123456789\r\n000\r\nA: b\r\n\r\n",
        10,
    ),
    # Transfer-Encoding wins over Content-Length (RFC 9112 section 6.3 rule 3)
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n", 0),
    # no body whatever the headers say (rule 1)
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", 0),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", 0),
    ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", b"", 0),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", 0),
    ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", 0),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", 0),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b"", 0),
    # 205: no body, but a chunked one sends its last chunk
    ("POST", b"HTTP/1.1 205 Reset Content\r\n\r\n", b"", 0),
    ("POST", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", b"", 0),
    ("POST", b"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n", 0),
    # no reason, bare LF
    ("GET", b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", b"x", 1),
    ("GET", b"HTTP/1.0 200 OK\nContent-Length: 1\n\n", b"x", 1),
    # a CONNECT refused, an upgrade not taken up
    ("CONNECT", b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\n", b"no", 2),
    ("CONNECT", b"HTTP/1.1 300 Multiple\r\nContent-Length: 2\r\n\r\n", b"no", 2),
]


@pytest.mark.parametrize(("method", "head", "body", "size"), RESPONSES)
def test_where_a_response_ends(method: str, head: bytes, body: bytes, size: int) -> None:
    """And that the next one begins there."""
    parser = Http1()
    parser.receive(C, method.encode() + b" h:1 HTTP/1.1\r\nHost: h\r\n\r\n")
    parser.receive(C, GET)
    first, second = [m for m in parser.receive(S, head + body + OK) if m.side is S]

    end = len(head + body)
    assert (first.begin, first.head_end, first.end, first.body_size) == (0, len(head), end, size)
    assert (first.method, first.incomplete, first.upgrade) == (method, Incomplete.NONE, False)
    assert (second.begin, second.status, second.method) == (end, 200, "GET")


REQUESTS = [
    (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", 0),
    (b"POST / HTTP/1.1\r\nHost: h\r\n\r\n", b"", 0),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", b"hello", 5),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", b"hello", 5),
    (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n2 \t\r\nbc\r\n0;x\r\n\r\n", 3),
    (b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", b"abc", 3),
    (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", b"", 0),
    (b"GET http://h:1/x?y HTTP/1.1\r\nHost: h:1\r\n\r\n", b"", 0),
    (b"BREW /pot HTTP/1.1\r\nHost: h\r\nAccept:\r\n folded\r\n\tagain\r\n\r\n", b"", 0),
]


@pytest.mark.parametrize(("head", "body", "size"), REQUESTS)
def test_where_a_request_ends(head: bytes, body: bytes, size: int) -> None:
    """Whatever its method and the form of its target (RFC 9112 section 3.2)."""
    first, second = Http1().receive(C, head + body + GET)

    end = len(head + body)
    method, target, version = head.split(b"\r\n")[0].decode().split(" ")
    assert (first.method, first.target, f"HTTP/{first.version}") == (method, target, version)
    assert (first.head_end, first.end, first.body_size) == (len(head), end, size)
    assert second.begin == end


def test_a_message_is_announced_at_its_head_and_again_at_its_end() -> None:
    """The same object; once where both come together."""
    parser = Http1()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
    (begun,) = parser.receive(C, head + b"ab")
    assert (begun.end, begun.body_size) == (-1, -1)
    assert parser.receive(C, b"c") == []
    (ended,) = parser.receive(C, b"d")
    assert ended is begun
    assert (ended.end, ended.body_size) == (len(head) + 4, 4)
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    assert len(parser.receive(C, chunked)) == 1


def test_interim_responses_are_passed_over() -> None:
    """100, 102 and 103 before the final one, which begins behind them (RFC 9110 section 15.2)."""
    parser = Http1()
    parser.receive(C, GET)
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert parser.receive(S, interim) == []
    (message,) = parser.receive(S, OK)
    assert (message.begin, message.status, message.method) == (len(interim), 200, "GET")


def test_a_response_may_begin_and_end_before_its_request_ends() -> None:
    """413 to an upload that goes on; the next request is the one behind it."""
    parser = Http1()
    (upload,) = parser.receive(C, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
    (refusal,) = parser.receive(S, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert (refusal.method, refusal.end >= 0, upload.end) == ("POST", True, -1)
    ended, following = parser.receive(C, b"world" + GET)
    assert ended is upload
    assert (upload.body_size, following.begin) == (10, upload.end)
    assert [told(m)[:2] for m in parser.receive(S, OK)] == [("GET", 200)]


ASKS = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\nExpect: 100-Continue\r\n\r\n"
AGAIN = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
FAILED = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("framing", [b"Content-Length: 300", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_not_wanted_need_not_come(framing: bytes, step: int) -> None:
    """Behind a final answer to Expect: 100-continue, what begins like a request is the next one (curl after 417)."""
    asks = ASKS.replace(b"Content-Length: 300", framing)
    parser = Http1()
    found = [*parser.receive(Side.CLIENT, asks), *parser.receive(Side.SERVER, FAILED)]
    for at in range(0, len(AGAIN), step):
        found += parser.receive(Side.CLIENT, AGAIN[at : at + step])
    found += parser.receive(Side.SERVER, FAILED)

    requests = {message.begin: message for message in found if message.side is Side.CLIENT}
    assert [(m.target, m.end - m.begin, m.body_size, m.incomplete) for m in requests.values()] == [
        ("/a", len(asks), 0, Incomplete.NONE),
        ("/b", len(AGAIN), 3, Incomplete.NONE),
    ]
    assert len({message.begin for message in found if message.side is Side.SERVER}) == 2


@pytest.mark.parametrize("answers", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n" + FAILED, FAILED])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_body_that_was_asked_about_may_come_all_the_same(answers: bytes, step: int) -> None:
    """As wished for, or because the answer took its time."""
    body = b"{" + b"x" * 299
    parser = Http1()
    found = [*parser.receive(Side.CLIENT, ASKS), *parser.receive(Side.SERVER, answers)]
    for at in range(0, len(body), step):
        found += parser.receive(Side.CLIENT, body[at : at + step])
    found += parser.receive(Side.CLIENT, AGAIN)

    requests = {message.begin: message for message in found if message.side is Side.CLIENT}
    assert [(m.target, m.body_size) for m in requests.values()] == [("/a", 300), ("/b", 3)]


def test_a_body_that_looks_like_a_request_is_one_while_nothing_is_answered() -> None:
    """A final answer alone makes it doubtful."""
    parser = Http1()
    body = AGAIN.ljust(300)
    found = [*parser.receive(Side.CLIENT, ASKS), *parser.receive(Side.CLIENT, body)]

    assert [(message.target, message.body_size) for message in found[1:]] == [("/a", 300)]


@pytest.mark.parametrize(
    ("length", "data"), [(b"Content-Length: 5", b"hello"), (b"Transfer-Encoding: chunked", b"GET /" + b"a" * 4096)]
)
def test_where_a_body_and_a_request_look_alike_nothing_is_guessed(length: bytes, data: bytes) -> None:
    parser = Http1()
    parser.receive(Side.CLIENT, ASKS.replace(b"Content-Length: 300", length))
    parser.receive(Side.SERVER, FAILED)

    with pytest.raises(ProtocolError, match="the body, or another request"):
        parser.receive(Side.CLIENT, data)


def test_a_gap_where_a_body_may_not_have_come_takes_the_framing() -> None:
    """Before the answer it is the body's."""
    for answer, survives in ((b"", True), (b"HTTP/1.1 100 Continue\r\n\r\n", True), (FAILED, False)):
        parser = Http1()
        parser.receive(Side.CLIENT, ASKS)
        parser.receive(Side.SERVER, answer)
        if not survives:
            with pytest.raises(ProtocolError):
                parser.lose(Side.CLIENT, Gap(300, deliberate=True))
            continue
        (message,) = parser.lose(Side.CLIENT, Gap(300, deliberate=True))
        assert (message.target, message.body_size) == ("/a", 300)


@pytest.mark.parametrize("more", [b"", b"GE"])
def test_a_body_that_was_kept_back_is_not_missing_at_the_close(more: bytes) -> None:
    """Nor is what may be the beginning of another request part of it."""
    parser = Http1()
    (message,) = parser.receive(Side.CLIENT, ASKS)
    parser.receive(Side.SERVER, FAILED)
    assert parser.receive(Side.CLIENT, more) == []

    assert parser.close(Side.CLIENT) == [message]
    assert (message.end, message.body_size, message.incomplete) == (len(ASKS), 0, Incomplete.NONE)


def test_empty_lines_before_a_request_are_not_part_of_it() -> None:
    """RFC 9112 section 2.2, in any pieces."""
    for cut in range(7):
        parser = Http1()
        found = [*parser.receive(C, b"\r\n\n\r\n\n"[:cut]), *parser.receive(C, b"\r\n\n\r\n\n"[cut:] + GET)]
        assert [m.begin for m in found] == [6]


def test_headers_a_span_can_use() -> None:
    """Lower-case names; repeated ones joined in order; others left out."""
    (message,) = Http1().receive(
        C,
        b"GET / HTTP/1.1\r\nHOST: h\r\nUser-Agent:  curl/8 \r\n"
        b"X-Forwarded-For: a\r\nAccept: */*\r\nx-forwarded-for: b\r\n"
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    )
    assert message.headers == {
        "host": "h",
        "user-agent": "curl/8",
        "x-forwarded-for": "a, b",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    (message,) = Http1(wanted=frozenset({"accept"})).receive(
        C, b"GET / HTTP/1.1\r\nHost: h\r\nAccept: x\r\nVia: y\r\n\r\n"
    )
    assert message.headers == {"host": "h", "accept": "x"}


# -- responses nobody asked for ----------------------------------------------------------------------------------------


def test_a_response_that_answers_nothing_has_no_method() -> None:
    """408 to an idle connection (RFC 9110 section 15.5.9)."""
    timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    parser = Http1()
    parser.receive(C, GET)
    parser.receive(S, OK)
    (message,) = parser.receive(S, timeout)
    assert told(message) == ("", 408, len(OK + timeout), 0)


def test_an_answer_to_half_a_head_announces_the_request() -> None:
    """431: the first line is whole, so it is known what is answered. The head may still become whole."""
    answer = b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n"
    parser = Http1()
    assert parser.receive(C, b"GET /big HTTP/1.1\r\nHost: h\r\nCookie: x") == []
    request, response = parser.receive(S, answer)
    assert (request.begin, request.target, request.headers, request.end) == (0, "/big", {"host": "h"}, -1)
    assert (response.method, response.status) == ("GET", 431)

    rest = b"x\r\nUser-Agent: u\r\n\r\n"
    (ended,) = parser.receive(C, rest)
    assert ended is request
    assert (request.headers, request.body_size) == ({"host": "h", "user-agent": "u"}, 0)
    assert request.end == request.head_end == len(b"GET /big HTTP/1.1\r\nHost: h\r\nCookie: x" + rest)
    assert [m.begin for m in parser.receive(C, GET)] == [request.end]


def test_an_early_request_may_have_a_body() -> None:
    """Announced by its answer, then at its end, and not in between."""
    parser = Http1()
    parser.receive(C, b"POST / HTTP/1.1\r\nHost: h\r\nX: ")
    request, _ = parser.receive(S, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
    assert parser.receive(C, b"y\r\nContent-Length: 2\r\n\r\n") == []
    assert parser.receive(C, b"ok") == [request]
    assert (request.body_size, request.incomplete) == (2, Incomplete.NONE)


def test_an_answer_to_less_than_a_first_line_answers_nothing() -> None:
    """There is no request to speak of."""
    parser = Http1()
    parser.receive(C, b"GET /sl")
    (response,) = parser.receive(S, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
    assert response.method == ""
    assert parser.close(C) == []


def test_requests_without_an_answer_are_bounded() -> None:
    """Ten thousand, and no more."""
    parser = Http1()
    assert len(parser.receive(C, GET * 10_000)) == 10_000
    with pytest.raises(ProtocolError):
        parser.receive(C, GET)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_is_the_framing_of_a_response_that_has_no_other() -> None:
    """RFC 9112 section 6.3 rule 8: whole, not cut off."""
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    parser = Http1()
    parser.receive(C, b"GET / HTTP/1.0\r\n\r\n")
    (begun,) = parser.receive(S, head + b"hello")
    assert parser.receive(S, b" world") == []
    assert parser.lose(S, Gap(9, deliberate=False)) == []
    assert parser.close(C) == []
    assert parser.close(S) == [begun]
    assert (begun.end, begun.body_size, begun.incomplete) == (len(head) + 20, 20, Incomplete.NONE)


CUT_OFF = [
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello", {"host": "h", "content-length": "10"}, 5),
    (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nwor",
        {"host": "h", "transfer-encoding": "chunked"},
        8,
    ),
    (b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: cur", {"host": "h"}, -1),
    (b"GET / HTTP/1.1\r\n", {}, -1),
]


@pytest.mark.parametrize(("data", "headers", "size"), CUT_OFF)
def test_a_request_cut_off_by_the_close_says_so(data: bytes, headers: dict[str, str], size: int) -> None:
    """What is known of it is told."""
    listener = Listener().receive(C, data).close()
    (message,) = listener.messages
    assert (message.incomplete, message.end, message.body_size) == (Incomplete.CLOSED, len(data), size)
    assert (message.target, message.headers) == ("/", headers)


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 200 OK\r\nServ"])
def test_a_response_cut_off_by_the_close_says_so(data: bytes) -> None:
    """In its body or in its head."""
    listener = Listener().receive(C, GET).receive(S, data).close()
    _, message = listener.messages
    assert (message.status, message.method, message.incomplete) == (200, "GET", Incomplete.CLOSED)
    assert message.end == len(data)


@pytest.mark.parametrize("data", [b"", b"\r", b"GET / HTTP/1.1", b"\r\n\r\n"])
def test_less_than_a_first_line_is_no_request(data: bytes) -> None:
    """Nothing can be said about it."""
    assert Listener().receive(C, data).close().messages == []


def test_an_interim_response_alone_is_no_answer() -> None:
    """Nor is half of one."""
    for data in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\nX"):
        listener = Listener().receive(C, GET).receive(S, data).close()
        assert len(listener.messages) == 1
        assert listener.error is None


def test_a_side_that_is_over_says_nothing_more() -> None:
    """Bytes behind the close are an error of whoever brings them; closing again is none."""
    parser = Http1()
    assert parser.close(C) == parser.close(C) == []
    with pytest.raises(ProtocolError):
        parser.receive(C, GET)


def test_repr_shows_the_state() -> None:
    """Each side's step and offset, and how many requests wait for an answer."""
    parser = Http1((5, 7))
    parser.receive(C, GET)
    parser.receive(S, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    parser.receive(C, GET[:5])
    assert repr(parser) == f"<Http1 client=head@{5 + len(GET) + 5} server=body@45 waiting=0>"
