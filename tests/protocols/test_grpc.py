"""gRPC within the content of messages: what is counted and what gRPC-Web's trailers say, however framed and cut."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelbpf.protocols.base import Gap, Side
from otelbpf.protocols.grpc import Parts, TextParts, parts_of
from otelbpf.protocols.http1 import Http1
from tests.protocols.frames import data as data_frame
from tests.protocols.frames import head as head_frame
from tests.protocols.frames import part
from tests.protocols.test_http2 import hear

C, S = Side.CLIENT, Side.SERVER
WEB, WEB_TEXT = "application/grpc-web+proto", "application/grpc-web-text"
STATUS = b"grpc-status: 5\r\nGRPC-Message:not there\r\n"
FIELDS = {"grpc-status": "5", "grpc-message": "not there"}


def trailers(block: bytes = STATUS, flags: int = 0x80) -> bytes:
    return bytes([flags]) + len(block).to_bytes(4) + block


def read(content_type: str, *pieces: bytes) -> Parts:
    """Each piece as if it lay among other bytes."""
    parts = parts_of(content_type)
    for piece in pieces:
        parts.feed(b"<" + piece + b">", 1, 1 + len(piece))
    return parts


def in_text(pieces: list[bytes]) -> bytes:
    """Each encoded on its own, as a server does that flushes them."""
    return b"".join(base64.b64encode(piece) for piece in pieces)


def framed(how: str, content: bytes) -> tuple[bytes, bytes]:
    """Header lines and body."""
    if how == "sized":
        return b"Content-Length: %d\r\n" % len(content), content
    if how == "chunked":
        chunks = [content[at : at + 7] for at in range(0, len(content), 7)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        return b"Transfer-Encoding: chunked\r\n", body + b"0\r\n\r\n"
    return b"", content


@given(
    messages=st.lists(st.binary(max_size=40), max_size=4),
    content_type=st.sampled_from([WEB, WEB_TEXT]),
    how=st.sampled_from(["sized", "chunked", "until close"]),
    step=st.integers(1, 60),
)
@example(messages=[], content_type=WEB, how="sized", step=1)
def test_what_a_response_says_does_not_depend_on_how_it_came(
    messages: list[bytes], content_type: str, how: str, step: int
) -> None:
    """Cut anywhere, in any framing, in base64 or not: its messages and its status."""
    parts = [*map(part, messages), trailers()]
    lines, body = framed(how, in_text(parts) if content_type == WEB_TEXT else b"".join(parts))
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n%b" % (content_type.encode(), lines, body)
    asked = part(b"question")
    parser = Http1()
    (request,) = parser.receive(
        C,
        b"POST /a.B/C HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\nContent-Length: 13\r\n\r\n" + asked,
    )
    found = [one for at in range(0, len(answer), step) for one in parser.receive(S, answer[at : at + step])]
    found += parser.close(S)
    response = found[-1]
    assert (request.parts, request.trailers, request.body_size) == (1, {}, 13)
    assert (response.parts, response.trailers) == (len(messages), FIELDS)
    assert (response.end, response.incomplete) == (len(answer), "")


def test_a_response_without_a_body_has_its_status_in_its_head() -> None:
    """And no messages, which is known."""
    parser = Http1(wanted=frozenset(("content-type", "grpc-status")))
    parser.receive(C, b"POST /a.B/C HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\ngrpc-status: 7\r\nContent-Length: 0\r\n\r\n"
    (response,) = parser.receive(S, head)
    assert (response.parts, response.headers["grpc-status"]) == (0, "7")


@pytest.mark.parametrize("how", ["sized", "chunked"])
def test_what_was_not_copied_of_a_message_hides_no_status(how: str) -> None:
    """A gap within one message, of which the length is known; in a chunked body, within one chunk."""
    large = part(b"x" * 1000)
    lines = b"Content-Length: %d\r\n" % (1005 + len(trailers()))
    pieces = [large[:200], large[900:], trailers()]
    if how == "chunked":
        lines = b"Transfer-Encoding: chunked\r\n"
        pieces = [b"3ed\r\n" + large[:200], large[900:] + b"\r\n", b"2d\r\n" + trailers() + b"\r\n0\r\n\r\n"]
        assert len(trailers()) == 0x2D
    parser = Http1()
    parser.receive(C, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    parser.receive(S, b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n" + lines + b"\r\n" + pieces[0])
    parser.lose(S, Gap(700, deliberate=True))
    parser.receive(S, pieces[1])
    (response,) = parser.receive(S, pieces[2])
    assert (response.parts, response.trailers, response.body_size) == (1, FIELDS, 1005 + len(trailers()))


def test_what_is_not_seen_whole_is_not_known() -> None:
    """A prefix, or a part of the trailers; base64 is not found again behind a gap."""
    parts = read(WEB, part(b"one"), part(b"two")[:5])
    parts.skip(4)
    assert parts.count == -1
    parts.feed(trailers(), 0, len(trailers()))
    assert (parts.count, parts.trailers()) == (-1, {})

    parts = read(WEB, part(b"one"), trailers()[:10])
    parts.skip(len(trailers()) - 10)
    assert (parts.count, parts.trailers()) == (1, {})

    assert read(WEB, part(b"one"), trailers()[:-1]).trailers() == {}

    text = TextParts()
    text.feed(base64.b64encode(part(b"one")), 0, 12)
    assert text.count == 1
    text.skip(4)
    assert text.count == -1


def test_what_is_no_grpc_web_is_not_read() -> None:
    """Compressed trailers, too long ones, a second block of them, messages behind them, bad base64: no error, no
    status that nobody gave."""
    assert read(WEB, part(b"a"), trailers(flags=0x81)).trailers() == {}
    assert read(WEB, trailers(b"grpc-status: 0\r\n" + b"x" * 9000)).trailers() == {}
    twice = read(WEB, trailers(), trailers(b"grpc-status: 0\r\n"))
    assert (twice.count, twice.trailers()) == (-1, {})
    behind = read(WEB, trailers(), part(b"a"))
    assert (behind.count, behind.trailers()) == (-1, {})
    assert read("application/grpc", trailers()).trailers() == {}
    assert read(WEB, b"<html>").count == -1
    for text in (b"====", b"AAAA====", b"A!AA", b"AA==" * 3, b"\xff\xff\xff\xff"):
        assert read(WEB_TEXT, text).trailers() == {}
    assert read(WEB, trailers(b"no field\r\n: 1\r\n\xff: \xe4")).trailers() == {"": "1", "\xff": "\xe4"}


def test_trailers_of_grpc_web_in_http2() -> None:
    """They stand in the content there, too."""
    content_type = b"\x88\x0f\x10\x14application/grpc-web"
    head = head_frame(1, content_type, 4)
    answer = head + data_frame(1, part(b"one")) + data_frame(1, trailers(), 1)
    _, response = hear((C, head_frame(1)), (S, answer))
    assert (response.parts, response.trailers) == (1, FIELDS)


@given(st.lists(st.binary(max_size=50)), st.sampled_from([WEB, WEB_TEXT]))
def test_any_bytes_are_survived(pieces: list[bytes], content_type: str) -> None:
    """And cut anywhere they say the same."""
    whole = read(content_type, b"".join(pieces))
    cut = read(content_type, *pieces)
    assert (whole.count, whole.trailers()) == (cut.count, cut.trailers())
