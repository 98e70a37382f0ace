"""Detection answers yes to complete first lines alone, and no only where nothing can follow that makes it a yes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.protocols.base import ProtocolError, Side
from otelbpf.protocols.detect import Verdict, looks_like_request, looks_like_response
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import patient

REQUESTS = [
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\n",
    b"\r\n\nGET /a?b#c HTTP/1.1\r\nHost: h\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT h:443 HTTP/1.1\r\n",
    b"GET http://h/ HTTP/1.1\r\n",
    b"VERSION-CONTROL / HTTP/1.1\r\n",
    b"GET /caf\xc3\xa9 HTTP/1.1\r\n",
    b"M!#$%&'*+-.^_`|~9 /" + b"x" * 9000 + b" HTTP/1.9\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404\n",
    b"HTTP/1.1 200 \r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 999 f\xfcr alle\tF\x01lle\r\n",
]
OTHERS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"*1\r\n$4\r\nPING\r\n",  # Redis
    b"get key\r\n",  # memcached
    b"EHLO h\r\n",
    b"220 h ESMTP\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL
    b"J\x00\x00\x00\n8.0.36\x00",  # MySQL
    b"OPTIONS rtsp://h/ RTSP/1.0\r\n",
    b"RTSP/1.0 200 OK\r\n",
    b"ICY 200 OK\r\n",
    b"GET / HTTP/0.9\r\n",
    b"GET /a b HTTP/1.1\r\n",
    b"GET /\r\n",
    b" GET / HTTP/1.1\r\n",
    b"G\x00T / HTTP/1.1\r\n",
    b"x" * 33,
    b"HTTP/1.1 99 No\r\n",
    b"HTTP/1.1 099 No\r\n",
    b"HTTP/2 200\r\n",
    b"{}",
]


@pytest.mark.parametrize("first", REQUESTS)
def test_requests_are_requests_from_the_first_line_on(first: bytes) -> None:
    """Every shorter beginning needs more; none is a response."""
    whole = first[: first.index(b"\n", 4) + 1]
    assert looks_like_request(first) is Verdict.YES
    assert looks_like_request(whole) is Verdict.YES
    for size in range(len(whole)):
        assert looks_like_request(whole[:size]) is Verdict.MORE
    assert looks_like_response(first) is Verdict.NO


@pytest.mark.parametrize("first", RESPONSES)
def test_responses_are_responses_from_the_first_line_on(first: bytes) -> None:
    """Every shorter beginning needs more; none is a request."""
    whole = first[: first.index(b"\n") + 1]
    assert looks_like_response(first) is Verdict.YES
    for size in range(len(whole)):
        assert looks_like_response(whole[:size]) is Verdict.MORE
    assert looks_like_request(first) is Verdict.NO


@pytest.mark.parametrize("first", OTHERS)
def test_other_protocols_are_neither(first: bytes) -> None:
    """And no further bytes change that."""
    for data in (first, first + b"GET / HTTP/1.1\r\n", first + b"\r\nHTTP/1.1 200 OK\r\n"):
        assert looks_like_request(data) is Verdict.NO
        assert looks_like_response(data) is Verdict.NO


@pytest.mark.parametrize(("looks", "begin"), [(looks_like_request, b"GET /"), (looks_like_response, b"HTTP/1.1 200 ")])
def test_a_first_line_without_end_is_none(looks: object, begin: bytes) -> None:
    """More is not said for ever."""
    assert looks(begin + b"x" * 65000) is Verdict.MORE  # type: ignore[operator]
    assert looks(begin + b"x" * 65536) is Verdict.NO  # type: ignore[operator]
    assert looks(begin + b"x" * 65536 + b" HTTP/1.1\r\n") is Verdict.NO  # type: ignore[operator]


pieces = st.lists(
    st.sampled_from(
        [b"GET", b" ", b"/", b"HTTP/1.", b"1", b"200", b"OK", b"\r\n", b"\r", b"\n", b"\t", b"\0", b"\xff", b"x" * 20]
    ),
    max_size=9,
).map(b"".join)


@patient
@given(pieces, pieces)
def test_no_is_final_and_yes_stays(data: bytes, more: bytes) -> None:
    """Whatever follows."""
    for looks in (looks_like_request, looks_like_response):
        verdict = looks(data)
        if verdict is not Verdict.MORE:
            assert looks(data + more) is verdict


@patient
@given(pieces)
def test_yes_is_said_only_of_what_the_parser_accepts(data: bytes) -> None:
    """The first line, closed with an empty one, is a whole head to it."""
    for side, looks in ((Side.CLIENT, looks_like_request), (Side.SERVER, looks_like_response)):
        if looks(data) is Verdict.YES:
            start = len(data) - len(data.lstrip(b"\r\n"))
            line = data[: data.index(b"\n", start) + 1]
            try:
                Http1().receive(side, line + b"\r\n")
            except ProtocolError as error:
                pytest.fail(str(error))
