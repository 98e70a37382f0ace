"""Conversations that hyper-h2 writes, one subject each: in the pieces in which they were written, a byte at a time, and
each side at once."""

from __future__ import annotations

import pytest
from h2.settings import SettingCodes

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import ProtocolError, Side, StreamMessage
from tests.protocols.frames import END, GET, OK_GRPC, OPENING, POST_GRPC, data, frame, head, part, settings
from tests.protocols.talks import Listener, Talk

ASK = [(":method", "GET"), (":path", "/a?b=c"), (":scheme", "http"), (":authority", "h:1"), ("user-agent", "u/1")]
POST = [(":method", "POST"), (":path", "/p"), (":scheme", "https"), (":authority", "h"), ("content-type", "text/x")]
ANSWER = [(":status", "200"), ("content-type", "text/plain"), ("server", "s"), ("date", "today")]
CLIENT, SERVER = Side


def check(talk: Talk, *, in_order: bool = False) -> Listener:
    """However it is cut, every field of every message is as it was written; unless `in_order` matters, also when all of
    the client's side comes first."""
    expected = {(message.side, message.stream): message for message in talk.messages}
    whole = Listener().hear(talk.pieces)
    bytewise = Listener().hear([(side, sent[i : i + 1]) for side, sent in talk.pieces for i in range(len(sent))])
    sides = [(side, b"".join(sent for each, sent in talk.pieces if each is side)) for side in Side]
    for listener in (whole, bytewise, *([] if in_order else [Listener().hear(sides)])):
        assert listener.error is None
        assert {(message.side, message.stream): message for message in listener.messages} == expected
        assert len(listener.messages) == len(expected)
    return whole


def test_requests_and_responses() -> None:
    """With content and without."""
    talk = Talk()
    talk.head(CLIENT, 1, ASK, end=True)
    talk.head(SERVER, 1, ANSWER)
    talk.data(SERVER, 1, b"hello", end=True)
    talk.head(CLIENT, 3, POST)
    talk.data(CLIENT, 3, b"x" * 10)
    talk.data(CLIENT, 3, b"y" * 5, end=True)
    talk.head(SERVER, 3, [(":status", "204")], end=True)
    check(talk)


def test_streams_overlap_in_any_order() -> None:
    """The second answer comes first, and a third one amid both."""
    talk = Talk()
    for stream in (1, 3, 5):
        talk.head(CLIENT, stream, ASK, end=True)
    talk.head(SERVER, 3, ANSWER)
    talk.head(SERVER, 1, ANSWER)
    talk.data(SERVER, 3, b"three")
    talk.data(SERVER, 1, b"one", end=True)
    talk.head(SERVER, 5, [(":status", "404")], end=True)
    talk.data(SERVER, 3, b"", end=True)
    check(talk)


def test_interim_responses_are_no_responses() -> None:
    """The final one begins where its own frame does."""
    talk = Talk()
    talk.head(CLIENT, 1, POST)
    talk.interim(1, 100)
    talk.data(CLIENT, 1, b"content", end=True)
    talk.interim(1, 103)
    talk.head(SERVER, 1, ANSWER, end=True)
    check(talk)


def test_trailers_end_a_message() -> None:
    """On both sides."""
    talk = Talk()
    talk.head(CLIENT, 1, POST)
    talk.data(CLIENT, 1, b"content")
    talk.trailers(CLIENT, 1, [("x-forwarded-for", "1.2.3.4"), ("x-other", "o")])
    talk.head(SERVER, 1, ANSWER)
    talk.trailers(SERVER, 1, [("traceparent", "00-1-2-00")])
    check(talk)


def test_padding_is_no_content() -> None:
    """Neither its length nor its bytes; nor does padding of a header block belong to it."""
    talk = Talk()
    talk.head(CLIENT, 1, POST)
    talk.data(CLIENT, 1, b"content", padding=0)
    talk.data(CLIENT, 1, b"more", padding=255)
    talk.data(CLIENT, 1, b"", padding=3, end=True)
    check(talk)


def test_a_reset_ends_what_is_open() -> None:
    """A cancelled upload, a cancelled answer, a refused request, and a whole one that is cancelled before an answer."""
    talk = Talk()
    for stream in (1, 3, 5, 7):
        talk.head(CLIENT, stream, POST if stream in (1, 5) else ASK, end=stream not in (1, 5))
    talk.data(CLIENT, 1, b"begun")
    talk.reset(CLIENT, 1, 8)
    talk.head(SERVER, 3, ANSWER)
    talk.reset(CLIENT, 3, 8)
    talk.reset(SERVER, 5, 7)
    talk.reset(CLIENT, 7, 2)
    check_resets(talk)


def check_resets(talk: Talk) -> None:
    """As `check`, but that where the other side's message ends depends on how far it was heard."""
    listener = Listener().hear(talk.pieces)
    assert listener.error is None
    assert listener.messages == talk.messages


def test_a_header_block_in_many_frames() -> None:
    """More than one frame holds."""
    talk = Talk()
    talk.head(CLIENT, 1, [*ASK, *((f"x-{i}", "long" * 500) for i in range(20))], end=True)
    talk.head(SERVER, 1, ANSWER, end=True)
    check(talk)


def test_tables_of_any_size() -> None:
    """Each side's settings hold for the other's blocks, from where it says that it follows them."""
    talk = Talk()
    stream = 1
    for size in (4096, 0, 100, 65536, 300, 4096):
        for side in Side:
            talk.settings(side, {SettingCodes.HEADER_TABLE_SIZE: size})
        for i in range(20):
            talk.head(CLIENT, stream, [*ASK, ("x-forwarded-for", f"10.0.0.{i % 7}"), ("x-other", "o" * i)], end=True)
            talk.head(SERVER, stream, [*ANSWER, ("x-forwarded-for", f"{i % 5}" * 20)], end=True)
            stream += 2
    check(talk)


def test_frames_may_be_as_long_as_the_other_side_allows() -> None:
    """And no longer."""
    talk = Talk()
    talk.settings(SERVER, {SettingCodes.MAX_FRAME_SIZE: 40_000})
    talk.head(CLIENT, 1, POST)
    talk.data(CLIENT, 1, b"x" * 40_000, end=True)
    listener = check(talk, in_order=True)
    listener.hear([(CLIENT, frame(h2.DATA, 0, 1, b"", 40_001))])
    assert listener.error is not None

    listener = Listener().hear([(SERVER, settings()), (SERVER, frame(h2.DATA, 0, 1, b"", 16385))])
    assert listener.error is not None


def hear(*pieces: tuple[Side, bytes]) -> list[StreamMessage]:
    """The messages of a conversation by hand, behind its opening; the same whole and a byte at a time."""
    opening = [(CLIENT, OPENING), (SERVER, settings())]
    whole = Listener().hear([*opening, *pieces])
    bytewise = Listener().hear(
        [*opening, *((side, sent[i : i + 1]) for side, sent in pieces for i in range(len(sent)))]
    )
    assert whole.error is bytewise.error is None
    assert whole.messages == bytewise.messages
    return whole.messages


def test_padding_and_priority_of_header_blocks() -> None:
    """Are no part of them; continued ones have theirs in the first frame."""
    for flags, before, behind in (
        (h2.PADDED, b"\x03", b"\0\0\0"),
        (h2.WITH_PRIORITY, b"\0\0\0\0\x0f", b""),
        (h2.PADDED | h2.WITH_PRIORITY, b"\x01\x80\0\0\0\x0f", b"\0"),
    ):
        whole = frame(h2.HEADERS, END | flags, 1, before + GET + behind)
        first = frame(h2.HEADERS, h2.END_STREAM | flags, 1, before + GET[:3] + behind)
        for request in (whole, first + frame(h2.CONTINUATION, h2.END_HEADERS, 1, GET[3:])):
            (message,) = hear((CLIENT, request))
            assert (message.method, message.headers["host"]) == ("GET", "h")
            assert message.end - message.begin == len(request)


def test_frames_that_mean_nothing_here_are_passed_over() -> None:
    """Types nobody knows as well (section 5.5)."""
    noise = frame(h2.PING, 0, 0, bytes(8)) + frame(h2.WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + frame(0x42, 0xFF, 77, b"?")
    noise += frame(h2.PRIORITY, 0, 9, bytes(5)) + settings(_1=4096, _9999=1) + frame(h2.SETTINGS, h2.ACK)
    asked, answered = hear(
        (CLIENT, noise + head(1, flags=h2.END_HEADERS) + noise + data(1, b"x", h2.END_STREAM) + noise),
        (SERVER, noise + head(1, b"\x88", h2.END_HEADERS) + noise + data(1, b"y", h2.END_STREAM)),
    )
    assert (asked.body_size, answered.body_size, answered.status) == (1, 1, 200)


def test_a_push_is_a_request_of_the_servers_side() -> None:
    """And its answer; the table follows it."""
    promise = frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x02" + GET)
    padded = frame(h2.PUSH_PROMISE, h2.PADDED, 1, b"\x02\0\0\0\x04\x82\x86\0\0")
    padded += frame(h2.CONTINUATION, h2.END_HEADERS, 1, b"\x85\xbe")
    asked, first, second, answered, pushed = hear(
        (CLIENT, head(1)),
        (
            SERVER,
            promise + padded + head(1, b"\x88") + head(2, b"\x89", h2.END_HEADERS) + data(2, b"abc", h2.END_STREAM),
        ),
    )
    assert [(m.side, m.stream, m.method, m.target, m.status) for m in (asked, first, second, answered, pushed)] == [
        (CLIENT, 1, "GET", "/", 0),
        (SERVER, 2, "GET", "/", 0),
        (SERVER, 4, "GET", "/index.html", 0),
        (SERVER, 1, "GET", "", 200),
        (SERVER, 2, "GET", "", 204),
    ]
    assert (first.end - first.begin, second.headers["host"], pushed.body_size) == (len(promise), "h", 3)


def test_goaway_says_what_never_was_taken_up() -> None:
    """Requests behind the last stream it names end as refused; the others go on."""
    asked = [head(1), head(3, flags=h2.END_HEADERS) + data(3, b"xy"), head(5), head(7, flags=h2.END_HEADERS)]
    messages = hear(
        (CLIENT, b"".join(asked)),
        (SERVER, head(5, b"\x88", h2.END_HEADERS)),
        (SERVER, frame(h2.GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0")),
        (SERVER, frame(h2.GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0")),
        (SERVER, head(1, b"\x88") + data(5, b"z", h2.END_STREAM)),
    )
    found = {(m.side, m.stream): (m.reset, m.body_size, m.end >= 0) for m in messages}
    assert found == {
        (CLIENT, 1): (-1, 0, True),
        (CLIENT, 3): (7, 2, True),
        (CLIENT, 5): (-1, 0, True),
        (CLIENT, 7): (7, 0, True),
        (SERVER, 1): (-1, 0, True),
        (SERVER, 5): (-1, 1, True),
    }


def test_calls_of_grpc_count_their_messages() -> None:
    """Unary, streaming, cut anywhere, with none, and with a status alone."""
    client = head(1, POST_GRPC, h2.END_HEADERS) + data(1, part(b"one") + part(b"two")[:3])
    client += data(1, part(b"two")[3:] + part(b"") + part(b"four"), h2.END_STREAM)
    server = head(1, OK_GRPC, h2.END_HEADERS) + data(1, part(b"x" * 300)) + head(1, b"\x00\x0bgrpc-status\x010")
    asked, answered, other, refused = hear(
        (CLIENT, client), (SERVER, server), (CLIENT, head(3, POST_GRPC)), (SERVER, head(3, OK_GRPC))
    )
    assert (asked.parts, answered.parts, other.parts, refused.parts) == (4, 1, 0, 0)


def test_what_is_no_prefix_of_grpc_is_not_counted() -> None:
    """And trailers of gRPC-Web are no message."""
    for content, parts in ((b"<html>no message", -1), (part(b"one") + b"\x80\0\0\0\x02ok", 1)):
        asked, answered = hear(
            (CLIENT, head(1)), (SERVER, head(1, OK_GRPC, h2.END_HEADERS) + data(1, content, h2.END_STREAM))
        )
        assert (asked.parts, answered.parts) == (-1, parts)


def test_extended_connect() -> None:
    """RFC 8441: it has a path; what its stream carries then is no content of HTTP, but is counted."""
    block = b"\x42\x07CONNECT\x40\x09:protocol\x09websocket\x87\x44\x05/chat\x41\x01h"
    asked, answered = hear(
        (CLIENT, head(1, block, h2.END_HEADERS) + data(1, b"frames")),
        (SERVER, head(1, b"\x88", h2.END_HEADERS) + data(1, b"more", h2.END_STREAM)),
    )
    assert (asked.method, asked.target, asked.headers) == (
        "CONNECT",
        "/chat",
        {":protocol": "websocket", ":scheme": "https", "host": "h"},
    )
    assert (answered.upgrade, answered.body_size, asked.end) == (True, 4, -1)


def test_a_host_header_counts_where_there_is_no_authority() -> None:
    """Where both are there, it is the authority that does."""
    host, authority = b"\x00\x04host\x05other", b"\x41\x01h"
    for block, expected in ((b"\x82\x86\x84" + host, "other"), (b"\x82\x86\x84" + authority + host, "h")):
        (message,) = hear((CLIENT, head(1, block)))
        assert message.headers["host"] == expected


def test_frames_on_streams_that_are_over_are_passed_over() -> None:
    """Their header blocks belong to the table all the same."""
    messages = hear(
        (CLIENT, head(1, b"\x82\x86\x84", h2.END_HEADERS)),
        (SERVER, frame(h2.RST_STREAM, 0, 1, b"\0\0\0\x02")),
        (CLIENT, data(1, b"late") + head(1, b"\x41\x01h") + frame(h2.RST_STREAM, 0, 1, b"\0\0\0\x08")),
        (CLIENT, head(3, b"\x82\x86\x84\xbe")),
        (SERVER, head(9, b"\x88") + head(1, b"\x88")),
    )
    assert [(m.stream, m.reset, m.headers.get("host")) for m in messages] == [(1, 2, None), (3, -1, "h"), (9, -1, None)]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(
    "wrong",
    [
        head(0),
        data(0, b"x"),
        frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x03" + GET),
        frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0"),
        frame(h2.PING, 0, 0, bytes(7)),
        frame(h2.PING, 0, 1, bytes(8)),
        frame(h2.SETTINGS, 0, 0, bytes(5)),
        frame(h2.SETTINGS, 0, 1, bytes(6)),
        frame(h2.SETTINGS, h2.ACK, 0, bytes(6)),
        frame(h2.RST_STREAM, 0, 1, bytes(3)),
        frame(h2.RST_STREAM, 0, 0, bytes(4)),
        frame(h2.GOAWAY, 0, 0, bytes(7)),
        frame(h2.WINDOW_UPDATE, 0, 0, bytes(5)),
        frame(h2.PRIORITY, 0, 1, bytes(4)),
        frame(h2.CONTINUATION, h2.END_HEADERS, 1, GET),
        frame(h2.HEADERS, h2.END_STREAM, 1, GET) + data(1, b"x"),
        frame(h2.HEADERS, h2.END_STREAM, 1, GET) + frame(h2.CONTINUATION, h2.END_HEADERS, 3, GET),
        frame(h2.HEADERS, END | h2.PADDED, 1, b"\x09" + GET),
        frame(h2.HEADERS, END | h2.PADDED, 1),
        frame(h2.HEADERS, END | h2.WITH_PRIORITY, 1, b"\0\0"),
        head(1, b"\xff"),
        head(1, b"\xc8"),
    ],
)
def test_connection_errors(side: Side, wrong: bytes) -> None:
    """Whole and a byte at a time; what came before them is told."""
    opening = [(CLIENT, OPENING), (SERVER, settings()), (CLIENT, head(7))]
    for pieces in ([wrong], [wrong[i : i + 1] for i in range(len(wrong))]):
        listener = Listener().hear([*opening, *((side, piece) for piece in pieces)])
        assert listener.error is not None
        assert [message.stream for message in listener.messages] == [7]


def test_a_client_does_not_open_an_even_stream() -> None:
    """A server does, and only by promise."""
    assert Listener().hear([(CLIENT, OPENING + head(2))]).error is not None
    assert Listener().hear([(SERVER, settings() + head(2, b"\x88"))]).messages == []


def test_padding_of_data_beyond_the_frame() -> None:
    """Is an error, where the stream is known."""
    for payload in (b"", b"\x01", b"\x05abcd"):
        content = frame(h2.DATA, h2.PADDED, 1, payload)
        for pieces in ([content], [content[i : i + 1] for i in range(len(content))]):
            listener = Listener().hear([(CLIENT, OPENING + head(1, flags=h2.END_HEADERS))])
            assert listener.hear([(CLIENT, piece) for piece in pieces]).error is not None


def test_what_is_no_http2_is_refused() -> None:
    """From the first byte that differs, and for good."""
    for side, sent in (
        (CLIENT, b"GET / HTTP/1.1\r\n"),
        (CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\4\0\0\0\0\0\1four"),
        (SERVER, b"\0\0\0\1\4\0\0\0\1"),
    ):
        listener = Listener().hear([(side, sent)])
        assert listener.error is not None
        for other in Side:
            try:
                listener.parser.receive(other, b"\0")
            except ProtocolError:
                continue
            raise AssertionError("it goes on")
