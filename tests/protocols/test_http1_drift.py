"""Bytes that frame and were deliberately not copied: ends that can be inferred are, and are marked; others are not."""

from __future__ import annotations

import pytest

from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import Listener, gap

C, S = Side.CLIENT, Side.SERVER
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"\r\n0\r\n\r\n"


def asked(*more: bytes) -> Http1:
    """A parser whose client has asked."""
    parser = Http1()
    for data in (GET, *more):
        parser.receive(C, data)
    return parser


ENDINGS: dict[str, list[bytes | Gap]] = {
    "in the tail": [gap(5000, b"x" + LAST)],
    "in the tail of a later call": [gap(5000, b"abcdefgh"), gap(900, b"y" + LAST)],
    "as a call of its own": [gap(5000), b"0\r\n\r\n"],
    "as a call of its own, known by its tail": [gap(5000), gap(5, b"0\r\n\r\n")],
    "in a call that was seen": [gap(5000), b"more of a chunk" + LAST],
    "split between calls": [gap(5000, b"abcdef\r\n"), b"0\r\n\r\n"],
    "split between calls, twice": [gap(5000, b"abcd"), gap(3, b"\r\n0"), gap(4, b"\r\n\r\n")],
}


def feed(parser: Http1, side: Side, pieces_: list[bytes | Gap]) -> list[Message]:
    """Bytes and gaps in order."""
    return [
        message
        for piece in pieces_
        for message in (parser.lose(side, piece) if isinstance(piece, Gap) else parser.receive(side, piece))
    ]


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("side", Side)
def test_the_last_chunk_ends_a_message_adrift(name: str, side: Side) -> None:
    """At the very end of what a call wrote."""
    parser = Http1() if side is C else asked()
    (message,) = parser.receive(side, UPLOAD if side is C else STREAM)
    parts = ENDINGS[name]
    assert feed(parser, side, parts[:-1]) == []
    if len(parts) > 1:
        assert parser.needed_from(side) == len(UPLOAD if side is C else STREAM) + _size(parts[:-1]) - 1
    assert feed(parser, side, parts[-1:]) == [message]
    assert message.end == message.head_end + _size(parts)
    assert (message.body_size, message.incomplete) == (-1, Incomplete.BODY_SIZE_UNKNOWN)


def _size(parts: list[bytes | Gap]) -> int:
    return sum(part.size if isinstance(part, Gap) else len(part) for part in parts)


NO_ENDINGS: dict[str, list[bytes | Gap]] = {
    "not at the end": [gap(5000), b"x" + LAST + b"x"],
    "what comes before it is known": [gap(5000, b"abcdefgh"), b"0\r\n\r\n"],
    "another size": [gap(5000, b"\r\n10\r\n\r\n")],
    "a tail that is unknown": [gap(5000)],
}


@pytest.mark.parametrize("name", NO_ENDINGS)
def test_what_looks_like_a_last_chunk_is_none(name: str) -> None:
    """The message goes on."""
    parser = asked()
    (message,) = parser.receive(S, STREAM)
    assert feed(parser, S, NO_ENDINGS[name]) == []
    assert message.end == -1


def test_a_body_that_looks_like_a_last_chunk_does_no_harm() -> None:
    """A chunk whose content ends in CRLF 0 CRLF, at the end of a call: its message ends early, and nothing else is
    wrong, for what still comes of it is passed over."""
    for side in Side:
        parser = Http1() if side is C else asked()
        (message,) = parser.receive(side, UPLOAD if side is C else STREAM)
        assert parser.lose(side, gap(5000, b"x" + LAST)) == [message]
        early = message.end
        assert feed(parser, side, [b"5\r\nhello\r\n", gap(700), b"0\r\n\r\n"]) == []
        assert message.end == early
        for following, answer in ((GET, OK),) if side is S else ((b"", OK), (GET, OK)):
            found = feed(parser, C, [following]) + feed(parser, S, [answer])
            assert [m.end >= 0 for m in found] == [True] * (2 if following else 1)


def test_a_response_adrift_ends_where_the_next_one_begins() -> None:
    """At the start of a system call, once another request waits; in any pieces."""
    following = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    for cut in range(1, len(following)):
        parser = asked()
        (first,) = parser.receive(S, STREAM)
        parser.lose(S, gap(5000, b"A: b\r\n\r\n"))
        assert parser.receive(S, b"HTTP/1.1 200 OK\r\n") == []  # no request waits: a body can look like this
        parser.receive(C, GET)
        end = len(STREAM) + 5000 + 17
        found = feed(parser, S, [following[:cut], following[cut:]])
        messages = [message for i, message in enumerate(found) if message not in found[:i]]
        assert messages[0] is first
        assert first.end == end
        assert (messages[1].begin, messages[1].end, messages[1].status) == (end, end + len(following), 404)


def test_a_response_adrift_is_given_up_if_the_next_one_may_be_hidden() -> None:
    """Another request waits, and what comes is no first line, or is not seen at all."""
    for piece in (b"chunk", gap(9, b"chunk\r\n\r")):
        parser = asked()
        parser.receive(S, STREAM)
        parser.lose(S, gap(5000))
        parser.receive(C, GET)
        with pytest.raises(ProtocolError):
            feed(parser, S, [piece])


def test_a_gap_that_may_hide_a_response_ends_the_parser() -> None:
    """Two requests wait for an answer."""
    parser = asked(GET)
    parser.receive(S, STREAM)
    with pytest.raises(ProtocolError):
        parser.lose(S, gap(5000, b"x" + LAST))


def test_a_gap_of_a_client_that_pipelines_ends_the_parser() -> None:
    """It may hide a request, and every answer behind it would be taken for the wrong one's."""
    parser = asked(UPLOAD)
    parser.receive(S, OK)
    with pytest.raises(ProtocolError):
        parser.lose(C, gap(5000, b"x" + LAST))


def test_a_request_adrift_ends_with_its_answer() -> None:
    """And what may still come of it is passed over until the next one begins."""
    parser = Http1()
    (request,) = parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    response, ended = parser.receive(S, OK)
    assert ended is request
    assert (request.end, request.body_size, request.incomplete) == (
        len(UPLOAD) + 5000,
        -1,
        Incomplete.BODY_SIZE_UNKNOWN,
    )
    assert response.method == "POST"
    assert feed(parser, C, [b"more of it", gap(100), b"0\r\n\r\n"]) == []
    (following,) = parser.receive(C, b"\r\n" + GET)
    assert following.begin == len(UPLOAD) + 5000 + 10 + 100 + 5 + 2
    assert [m.method for m in parser.receive(S, OK)] == ["GET"]


def test_a_request_adrift_ends_where_the_next_one_begins() -> None:
    """Not before it is answered: until then a first line is part of its body."""
    parser = Http1()
    (request,) = parser.receive(C, UPLOAD)
    assert feed(parser, C, [gap(5000), GET]) == []
    (response,) = parser.receive(S, STREAM)
    ended, following = parser.receive(C, GET)
    assert ended is request
    assert request.end == following.begin == len(UPLOAD) + 5000 + len(GET)
    assert response.end == -1


def test_both_sides_may_be_adrift() -> None:
    """The last chunk of the answer ends both."""
    parser = Http1()
    (request,) = parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    (response,) = parser.receive(S, STREAM)
    assert parser.lose(S, gap(7000, b"x" + LAST)) == [response, request]
    assert (request.end, response.end) == (len(UPLOAD) + 5000, len(STREAM) + 7000)


def test_an_answer_to_a_request_that_was_not_seen_ends_the_parser() -> None:
    """The gap in the upload hid one: what follows cannot be paired."""
    parser = Http1()
    parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    parser.receive(S, OK)
    with pytest.raises(ProtocolError):
        parser.receive(S, OK)


def test_what_is_no_request_behind_an_inferred_end_ends_the_parser() -> None:
    """It may be the rest of that body, and another request may have been in what was not seen."""
    parser = Http1()
    parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000, b"x" + LAST))
    parser.receive(S, OK)
    parser.receive(C, GET)
    parser.receive(S, OK)
    with pytest.raises(ProtocolError):
        parser.receive(C, b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")


def test_what_waited_to_be_a_first_line_and_is_none_is_body() -> None:
    """Then the call behind it is looked at on its own."""
    parser = Http1()
    (request,) = parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    parser.receive(S, OK)
    assert feed(parser, C, [b"word", b"\x00"]) == []
    (following,) = parser.receive(C, GET)
    assert (request.end, following.begin) == (len(UPLOAD) + 5000, len(UPLOAD) + 5005)


@pytest.mark.parametrize("method", [b"PUT", b"BREW", b"wordGET"])
def test_a_request_in_pieces_is_believed_if_its_method_is_known(method: bytes) -> None:
    """Otherwise its first pieces could be the end of a body: any word is a method."""
    listener = Listener().receive(C, UPLOAD)
    listener.take(lambda: listener.parser.lose(C, gap(5000)))
    listener.receive(S, OK)
    data = method + GET[3:]
    for i in range(len(data)):
        listener.receive(C, data[i : i + 1])
    assert [m.method for m in listener.messages] == ["POST", "POST", "PUT"][: 3 if method == b"PUT" else 2]
    assert (listener.error is None) is (method == b"PUT")


def test_a_first_line_that_was_cut_ends_the_parser() -> None:
    """A request may have begun there, and nobody knows which."""
    parser = Http1()
    parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    parser.receive(S, OK)
    parser.receive(C, GET[:9])
    with pytest.raises(ProtocolError):
        parser.lose(C, gap(9000))


def test_a_first_line_that_does_not_end_is_body() -> None:
    """No more than eight kilobytes wait to become one."""
    parser = Http1()
    parser.receive(C, UPLOAD)
    parser.lose(C, gap(5000))
    parser.receive(S, OK)
    assert feed(parser, C, [b"GET /", b"x" * 8000, b"x" * 1000]) == []
    assert [m.begin for m in parser.receive(C, GET)] == [len(UPLOAD) + 5000 + 9005]


def test_the_close_ends_a_message_adrift() -> None:
    """Whether it was whole is not known: it keeps its mark."""
    parser = asked()
    (message,) = parser.receive(S, STREAM)
    parser.lose(S, gap(5000))
    assert parser.close(S) == [message]
    assert (message.end, message.incomplete) == (len(STREAM) + 5000, Incomplete.BODY_SIZE_UNKNOWN)


# -- heads -------------------------------------------------------------------------------------------------------------


BIG = b"POST /big HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nUser-Agent: u\r\nCookie: abc"


def test_a_head_that_was_cut_is_announced_as_far_as_it_was_seen() -> None:
    """Every line that is whole, and the mark; what it says about the body is not believed."""
    parser = Http1()
    parser.receive(C, BIG)
    (message,) = parser.lose(C, gap(9000, b"\r\n\r\nhello"))
    assert (message.method, message.target, message.incomplete) == ("POST", "/big", Incomplete.HEAD_BEYOND_LIMIT)
    assert message.headers == {"host": "h", "content-length": "5", "user-agent": "u"}
    assert (message.head_end, message.end, message.body_size) == (len(BIG), -1, -1)
    response, ended = parser.receive(S, OK)
    assert ended is message
    assert (message.end, response.method) == (len(BIG) + 9000, "POST")


def test_a_response_head_that_was_cut_ends_where_the_next_one_begins() -> None:
    """Cookies beyond the budget."""
    parser = asked()
    parser.receive(S, b"HTTP/1.1 302 Found\r\nContent-Length: 3\r\nSet-Cookie: a")
    (message,) = parser.lose(S, gap(9000, b"\r\n\r\nabc"))
    assert (message.status, message.method, message.incomplete) == (302, "GET", Incomplete.HEAD_BEYOND_LIMIT)
    parser.receive(C, GET)
    ended, following = parser.receive(S, OK)
    assert ended is message
    assert message.end == following.begin


def test_a_chunked_message_whose_head_was_cut_ends_with_its_last_chunk() -> None:
    """If the seen part of the head says that it is chunked, and it may have a body."""
    for method, ends in ((b"GET", True), (b"HEAD", False)):
        parser = Http1()
        parser.receive(C, method + GET[3:])
        parser.receive(S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b")
        (message,) = parser.lose(S, gap(9000, b"x" + LAST))
        assert (message.end >= 0) is ends


def test_a_line_that_may_go_on_behind_the_cut_is_left_out() -> None:
    """obs-fold could continue the User-Agent (RFC 9112 section 5.2)."""
    parser = Http1()
    parser.receive(C, b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: one\r\n")
    (message,) = parser.lose(C, gap(9000))
    assert message.headers == {"host": "h"}


def test_a_head_beyond_the_limit_of_the_parser_says_so() -> None:
    """All its bytes were seen, but not kept: the same as if they had been cut, at the same place however they came."""
    head = b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * 200 + b"\r\nUser-Agent: u\r\n\r\n"
    for size in (1, 7, 100, 101, 1000):
        parser = Http1(head_limit=100)
        found = [m for i in range(0, len(head), size) for m in parser.receive(C, head[i : i + size])]
        (message,) = found
        assert (message.headers, message.head_end, message.end) == ({"host": "h"}, 100, -1)
        assert message.incomplete is Incomplete.HEAD_BEYOND_LIMIT
        response, ended = parser.receive(S, OK)
        assert ended is message
        assert (message.end, response.method) == (len(head), "GET")
        assert [m.begin for m in parser.receive(C, GET)] == [len(head)]


def test_a_first_line_beyond_the_limit_will_be_refused() -> None:
    """414, and nothing to tell but that."""
    parser = Http1(head_limit=100)
    (request,) = parser.receive(C, b"GET /" + b"x" * 200)
    assert (request.method, request.incomplete) == ("", Incomplete.MALFORMED)
    ended, answer = parser.receive(S, b"HTTP/1.1 414 Too Long\r\nContent-Length: 0\r\n\r\n")
    assert (ended is request, request.end, answer.status) == (True, 205, 414)


def test_an_early_request_whose_head_is_then_cut() -> None:
    """It was announced by its answer; it ends with the next one."""
    parser = Http1()
    parser.receive(C, BIG)
    request, _ = parser.receive(S, b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert parser.lose(C, gap(9000)) == []
    assert request.incomplete is Incomplete.HEAD_BEYOND_LIMIT
    ended, following = parser.receive(C, GET)
    assert ended is request
    assert request.end == following.begin == len(BIG) + 9000


def test_a_switch_whose_head_was_cut_is_a_switch() -> None:
    """101, or 2xx to CONNECT: opaque from the end of what was not seen."""
    for question, status in ((GET, b"101"), (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", b"200")):
        parser = Http1()
        parser.receive(C, question)
        parser.receive(S, b"HTTP/1.1 " + status + b" X\r\nA: b")
        (message,) = parser.lose(S, gap(9000))
        assert (message.upgrade, message.end, parser.opaque) == (True, len(b"HTTP/1.1 101 X\r\nA: b") + 9000, True)


def test_a_refused_tunnel_whose_head_was_cut_frees_the_client() -> None:
    """What it has sent since is HTTP."""
    parser = Http1()
    parser.receive(C, b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n")
    parser.receive(S, b"HTTP/1.1 403 X\r\nA: b")
    (message,) = parser.lose(S, gap(9000))
    assert (message.status, message.method) == (403, "CONNECT")
    assert [m.method for m in parser.receive(C, GET)] == ["GET"]


def test_a_switch_ends_a_request_adrift() -> None:
    """Nothing of it can follow."""
    parser = Http1()
    (request,) = parser.receive(C, b"POST / HTTP/1.1\r\nHost: h\r\nUpgrade: u\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.lose(C, gap(5000))
    _, ended = parser.receive(S, b"HTTP/1.1 101 S\r\nUpgrade: u\r\n\r\n")
    assert ended is request
    assert (request.incomplete, parser.opaque) == (Incomplete.BODY_SIZE_UNKNOWN, True)
