"""Conversations that hyper-h2 writes, one subject each: in the pieces in which they were written, a byte at a time, and
each side at once."""

from __future__ import annotations

from otelbpf.protocols.base import ProtocolError, Side
from tests.protocols.talks import Listener, Talk

ASK = [(":method", "GET"), (":path", "/a?b=c"), (":scheme", "http"), (":authority", "h:1"), ("user-agent", "u/1")]
POST = [(":method", "POST"), (":path", "/p"), (":scheme", "https"), (":authority", "h"), ("content-type", "text/x")]
ANSWER = [(":status", "200"), ("content-type", "text/plain"), ("server", "s"), ("date", "today")]
CLIENT, SERVER = Side


def check(talk: Talk) -> Listener:
    """However it is cut, every field of every message is as it was written."""
    expected = {(message.side, message.stream): message for message in talk.messages}
    whole = Listener().hear(talk.pieces)
    bytewise = Listener().hear([(side, data[i : i + 1]) for side, data in talk.pieces for i in range(len(data))])
    sides = [(side, b"".join(data for each, data in talk.pieces if each is side)) for side in Side]
    for listener in (whole, bytewise, Listener().hear(sides)):
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


def test_what_is_no_http2_is_refused() -> None:
    """From the first byte that differs, and for good."""
    for side, data in (
        (CLIENT, b"GET / HTTP/1.1\r\n"),
        (CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\4\0\0\0\0\0\1four"),
        (SERVER, b"\0\0\0\1\4\0\0\0\1"),
    ):
        listener = Listener().hear([(side, data)])
        assert listener.error is not None
        for other in Side:
            try:
                listener.parser.receive(other, b"\0")
            except ProtocolError:
                continue
            raise AssertionError("it goes on")
