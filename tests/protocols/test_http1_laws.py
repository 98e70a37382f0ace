"""Laws of the HTTP/1 parser over conversations that h11 wrote: how bytes are cut does not matter, garbage raises one
error and nothing else, memory is bounded and time is linear."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.protocols.base import Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import Conversation, Listener, conversations, cuts, patient, pieces


def play(conversation: Conversation, client_cuts: list[int], server_cuts: list[int]) -> Listener:
    listener = Listener()
    for burst in conversation.bursts:
        for piece in pieces(burst.client, client_cuts):
            listener.receive(Side.CLIENT, piece)
        for piece in pieces(burst.server, server_cuts):
            listener.receive(Side.SERVER, piece)
    return listener.close()


@patient
@given(conversations, cuts, cuts)
def test_any_cutting_gives_the_messages_that_were_written(
    conversation: Conversation, client_cuts: list[int], server_cuts: list[int]
) -> None:
    """Every field of every message, in order, however the bytes were cut."""
    listener = play(conversation, client_cuts, server_cuts)

    assert listener.error is None
    assert listener.messages == conversation.messages


@settings(patient, max_examples=25)
@given(conversations)
def test_one_byte_at_a_time(conversation: Conversation) -> None:
    """The finest cutting."""
    everywhere = list(range(10_000))
    assert play(conversation, everywhere, everywhere).messages == conversation.messages


@patient
@given(conversations, cuts)
def test_requests_may_come_before_every_response(conversation: Conversation, server_cuts: list[int]) -> None:
    """A client that pipelines everything: the order of each side decides, not the order between them."""
    listener = Listener()
    listener.receive(Side.CLIENT, b"".join(burst.client for burst in conversation.bursts))
    for piece in pieces(b"".join(burst.server for burst in conversation.bursts), server_cuts):
        listener.receive(Side.SERVER, piece)
    listener.close()

    for side in Side:
        found = [message for message in listener.messages if message.side is side]
        assert found == [message for message in conversation.messages if message.side is side]


@patient
@given(conversations)
def test_offsets_count_from_where_the_connection_was_joined(conversation: Conversation) -> None:
    """The same messages, each side moved by its own start."""
    starts = (1 << 40, 12345)
    listener = Listener(Http1(starts))
    for burst in conversation.bursts:
        listener.receive(Side.CLIENT, burst.client).receive(Side.SERVER, burst.server)
    listener.close()

    for found, message in zip(listener.messages, conversation.messages, strict=True):
        start = starts[message.side]
        assert (found.begin, found.head_end, found.end) == (
            message.begin + start,
            message.head_end + start,
            message.end + start,
        )


@patient
@given(conversations, cuts)
def test_needed_from_keeps_every_time_that_is_asked_for(conversation: Conversation, at: list[int]) -> None:
    """A begin is asked for when it is announced, the last byte when the end is: neither was forgotten before."""
    parser = Http1()
    begun: list[Message] = []
    for burst in conversation.bursts:
        for side, data in ((Side.CLIENT, burst.client), (Side.SERVER, burst.server)):
            for piece in pieces(data, at):
                before = parser.needed_from(side)
                for message in parser.receive(side, piece):
                    if not any(message is other for other in begun):
                        begun.append(message)
                        assert message.begin >= before
                    if message.end >= 0:
                        assert message.end - 1 >= before
                assert parser.needed_from(side) >= before


mutations = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 700),
        st.integers(0, 9),
        st.sampled_from([b"", b"\r", b"\n", b"\0", b"\r\n\r\n", b" ", b":", b"\xff", b"0", b"HTTP/1.1 200 OK\r\n"])
        | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def buffered(parser: Http1) -> int:
    """Bytes the parser keeps."""
    size = 0
    for half in (parser._client, parser._server):
        size += len(half.pending) + len(half.drift.candidate if half.drift else b"")
        size += len(getattr(half.body, "_line", b""))
    return size


@patient
@given(conversations, mutations, cuts)
def test_garbage_raises_one_error_or_nothing(
    conversation: Conversation, changes: list[tuple[int, int, int, bytes]], at: list[int]
) -> None:
    """Valid conversations with bytes replaced, inserted and taken out; what is kept stays within the limit."""
    parser = Http1(head_limit=256)
    try:
        for burst in conversation.bursts:
            for side, data in ((Side.CLIENT, burst.client), (Side.SERVER, burst.server)):
                for which, where, size, new in changes:
                    if which == side:
                        data = data[:where] + new + data[where + size :]  # noqa: PLW2901
                for piece in pieces(data, at):
                    parser.receive(side, piece)
                    assert buffered(parser) <= 2 * 256
        for side in Side:
            parser.close(side)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            parser.receive(Side.CLIENT, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")


REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
ENDLESS = {
    "header lines": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
    "one header": (b"GET / HTTP/1.1\r\nHost: ", b"x" * 60_000),
    "target": (b"GET /", b"x" * 60_000),
    "method": (b"", b"X" * 60_000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "nul": (b"\0", b"\0" * 60_000),
    "chunk extension": (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 60_000),
    "trailers": (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10_000),
    "small chunks": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        (b"20\r\n" + b"x" * 32 + b"\r\n") * 1000,
    ),
    "content": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", b"x" * 60_000),
    "behind a CONNECT": (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", b"x" * 60_000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_memory_is_bounded_whatever_comes_without_end(name: str) -> None:
    """More than a megabyte of it; it is not kept, and nothing but ProtocolError comes of it."""
    first, more = ENDLESS[name]
    parser = Http1()
    for piece in (first, more, more):  # the buffers are as large as they will be
        _feed(parser, piece)
    tracemalloc.start()
    try:
        for _ in range(20):
            _feed(parser, more)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 400_000


def _feed(parser: Http1, data: bytes) -> None:
    try:
        parser.receive(Side.CLIENT, data)
    except ProtocolError:
        return


SHAPES = {
    "one long header": lambda n: b"GET / HTTP/1.1\r\nHost: " + b"x" * n + b"\r\n\r\n",
    "many headers": lambda n: b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * (n // 6) + b"\r\n",
    "odd headers": lambda n: b"GET / HTTP/1.1\nHost: h\n" + b"a: b\n\tc\n" * (n // 8) + b"\n",
    "blanks before a NUL": lambda n: b"GET / HTTP/1.1\r\nHost:" + b" " * n + b"\0\r\n\r\n",
    "blanks in a chunk line": lambda n: (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b" " * n + b"\n\r\n"
    ),
    "trailers": lambda n: (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (n // 6) + b"\r\n"
    ),
    "chunk extension": lambda n: (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * n + b"\r\nhello\r\n0\r\n\r\n"
    ),
    "pipelined": lambda n: REQUEST * (n // len(REQUEST)),
    "pipelined, odd": lambda n: b"GET / HTTP/1.0\n\n" * (n // 16),
    "empty lines": lambda n: b"\r\n" * (n // 2) + REQUEST,
}


class Counted(bytes):
    """Bytes that count how many of them were looked through or copied, within one test."""

    work = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        """Searching costs what is searched."""
        found = bytes.find(self, sub, start, len(self) if end is None else end)
        Counted.work += (found if found >= 0 else min(len(self), len(self) if end is None else end)) - start
        return found

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        """Slicing costs what is copied."""
        found = bytes.__getitem__(self, key)  # type: ignore[call-overload]
        if isinstance(key, slice):
            Counted.work += len(found)
        return found


@pytest.mark.parametrize("name", SHAPES)
def test_work_grows_with_the_input_not_with_its_square(name: str) -> None:
    """Bytes looked through and copied out of what is received, counted: twice the input is about twice the work, where
    a square would be four times."""
    limit = 1024 if "pipelined" in name else 65536  # the most that is looked through for one message
    work = []
    for size in (20_000, 40_000):
        Counted.work = 0
        _feed(Http1(head_limit=limit), Counted(SHAPES[name](size)))
        work.append(Counted.work)

    assert work[1] <= 2.2 * work[0] + 2000


@pytest.mark.parametrize("name", SHAPES)
def test_one_byte_at_a_time_nothing_is_searched_twice(name: str) -> None:
    """The search for the end of a head goes on where it stopped: at most two bytes are looked at again."""
    parser = Http1()
    half = parser._client
    data = SHAPES[name](2000)
    for i in range(len(data)):
        _feed(parser, data[i : i + 1])
        assert len(half.pending) <= max(half.searched + 2, 1)


@pytest.mark.parametrize("name", SHAPES)
def test_no_expression_takes_quadratic_time(name: str) -> None:
    """The longest head there can be: h11 alone would take half a minute to refuse some of these."""
    data = SHAPES[name](65_000)
    begin = time.process_time()
    _feed(Http1(), data)

    assert time.process_time() - begin < 2
