"""Hostile input: one error or nothing comes of it, memory is bounded, time is linear."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Gap, Incomplete, ProtocolError, Side
from otelbpf.protocols.http2 import Http2
from tests.protocols.conversations import cuts, pieces
from tests.protocols.frames import END, GET, OPENING, data, frame, head
from tests.protocols.frames import settings as setting
from tests.protocols.talks import Listener, Talk, conversations
from tests.protocols.test_http2_laws import cut, patient

CLIENT, SERVER = Side

mutations = st.lists(
    st.tuples(
        st.sampled_from(Side),
        st.integers(0, 700),
        st.integers(0, 9),
        st.sampled_from(
            [b"", b"\0", b"\xff", b"\0\0\0\4\1\0\0\0\0", b"\x3f\xe1\x1f", b"\x80", GET, head(1), data(1, b"x")]
        )
        | st.binary(max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def buffered(parser: Http2) -> int:
    """Bytes the parser keeps of what is not complete."""
    size = 0
    for half in (parser._client, parser._server):
        size += len(half.pending)
        size += len(half.frame.payload) if half.frame is not None else 0
        size += len(half.block.fragments) if half.block is not None else 0
    return size


@settings(patient, max_examples=200)
@given(conversations, mutations, cuts, st.booleans(), st.lists(st.integers(0, 30), max_size=2))
def test_garbage_raises_one_error_or_nothing(
    talk: Talk, changes: list[tuple[Side, int, int, bytes]], at: list[int], fresh: bool, lost: list[int]
) -> None:
    """Valid conversations with bytes replaced, inserted, taken out and lost; what is kept stays within the limit."""
    parser = Http2(head_limit=256, max_streams=3, fresh=fresh)
    try:
        for number, (side, whole) in enumerate(talk.pieces):
            changed = whole
            for which, where, size, new in changes:
                if which is side:
                    changed = changed[:where] + new + changed[where + size :]
            for piece in pieces(changed, at):
                if number in lost:
                    parser.lose(side, Gap(len(piece), deliberate=True))
                else:
                    parser.receive(side, piece)
                assert buffered(parser) <= 4 * 256
                assert len(parser._asked) <= 3
        for side in Side:
            parser.close(side)
    except ProtocolError:
        for side in Side:
            with pytest.raises(ProtocolError):
                parser.receive(side, setting())


@patient
@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_noise(noise: list[bytes], fresh: bool) -> None:
    """Nothing but errors comes of it."""
    parser = Http2(fresh=fresh)
    for sent in noise:
        for side in Side:
            try:
                parser.receive(side, sent)
            except ProtocolError:
                return


def stream(number: int) -> int:
    return 2 * number + 1


ENDLESS: dict[str, Callable[[int], bytes]] = {
    "requests without an answer": lambda i: head(stream(i)),
    "uploads without an end": lambda i: head(stream(i), flags=h2.END_HEADERS) + data(stream(i), b"x"),
    "rapid resets": lambda i: head(stream(i)) + frame(h2.RST_STREAM, 0, stream(i), b"\0\0\0\x08"),
    "settings": lambda i: setting(_1=i, _5=16384 + i),
    "pings": lambda i: frame(h2.PING, 0, 0, bytes(8)),
    "window updates": lambda i: frame(h2.WINDOW_UPDATE, 0, i, b"\0\0\0\1"),
    "resets of nothing": lambda i: frame(h2.RST_STREAM, 0, stream(i), b"\0\0\0\x08"),
    "entries": lambda i: head(stream(i), b"\x82\x86\x84\x40\x0fx-forwarded-for\x7f\x80\x07" + b"%1023d" % i),
    "blocks that come twice": lambda i: head(stream(2 * i), b"\x82\x86\x84\x00\x01x\x08%08d" % i) * 2,
    "data of nobody": lambda i: data(stream(i), b"x" * 100),
    "empty data": lambda i: data(1, b""),
    "unknown frames": lambda i: frame(0x77, 0xFF, i, b"x" * 100),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_memory_is_bounded_whatever_comes_without_end(name: str) -> None:
    """Thirty thousand of it; a table, the open streams and what is remembered are all there is."""
    parser = Http2(max_streams=100)
    parser.receive(CLIENT, OPENING + (head(1, flags=h2.END_HEADERS) if name == "empty data" else b""))
    make = ENDLESS[name]
    _feed(parser, b"".join(make(i) for i in range(3000)))
    tracemalloc.start()
    try:
        for begin in range(3000, 30_000, 3000):
            _feed(parser, b"".join(make(i) for i in range(begin, begin + 3000)))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 1_000_000


def _feed(parser: Http2, sent: bytes) -> None:
    size = 1500
    for at in range(0, len(sent), size):
        parser.receive(CLIENT, sent[at : at + size])


def test_the_oldest_streams_are_given_up_and_counted() -> None:
    """What comes of them later is passed over."""
    parser = Http2(max_streams=16)
    parser.receive(CLIENT, OPENING)
    parser.receive(SERVER, setting())
    for i in range(19):
        parser.receive(CLIENT, head(stream(i), flags=h2.END_HEADERS))
    assert parser.evicted == 3
    assert parser.receive(SERVER, head(stream(2), b"\x88")) == []
    (answered,) = parser.receive(SERVER, head(stream(3), b"\x88"))
    assert answered.status == 200
    assert parser.receive(CLIENT, data(stream(0), b"x", h2.END_STREAM)) == []


def test_streams_without_an_end() -> None:
    """Ten thousand of the first million: each is told, a thousand are kept."""
    parser = Http2(max_streams=1000)
    parser.receive(CLIENT, OPENING)
    begin = time.process_time()
    told = 0
    for start in range(0, 1_000_000, 100_000):
        block = b"".join(head(stream(i), b"\x82\x86\x84") for i in range(start, start + 1000))
        told += len(parser.receive(CLIENT, block))
    assert told == 10_000
    assert parser.evicted == 10_000 - len(parser._asked)
    assert time.process_time() - begin < 2


def test_a_block_beyond_the_limit_is_told_as_far_as_it_is_kept() -> None:
    """A flood of CONTINUATION frames, and a HEADERS frame as long as a frame can be; later references are unknown."""
    flood = [frame(h2.HEADERS, h2.END_STREAM, 1, GET)]
    flood += [frame(h2.CONTINUATION, 0, 1, b"\x00\x01x\x7f\x80\x01" + b"y" * 255) for _ in range(1000)]
    flood += [frame(h2.CONTINUATION, 0, 1)] * 10_000 + [frame(h2.CONTINUATION, h2.END_HEADERS, 1, b"\x40\x01a\x01b")]
    large = frame(h2.HEADERS, END, 1, GET + b"\x00\x01x\x7f\x80\xff\x03" + b"y" * 65_535)
    for sent in (b"".join(flood), large):
        listener = Listener().hear([(SERVER, setting(_5=100_000)), (CLIENT, OPENING)])
        for at in range(0, len(sent), 1000):
            listener.hear([(CLIENT, sent[at : at + 1000])])
            assert buffered(listener.parser) <= 2 * 65536
        listener.hear([(CLIENT, head(3, b"\x82\x86\x84\xbe"))])
        first, second = listener.messages
        assert listener.error is None
        assert (first.target, first.incomplete, first.begin) == ("/", Incomplete.HEAD_BEYOND_LIMIT, len(OPENING))
        assert second.unknown == frozenset({"", ":authority"})


def test_work_grows_with_the_input_not_with_its_square() -> None:
    """Twice the input takes about twice the time: a flood is no way to stop everything else."""
    for name, make in ENDLESS.items():
        took = []
        opening = OPENING + (head(1, flags=h2.END_HEADERS) if name == "empty data" else b"")
        for count in (2000, 8000):
            sent = b"".join(make(i) for i in range(count))
            took.append(min(seconds_for(opening, sent) for _ in range(3)))
        assert took[1] < 4 * 3 * took[0] + 0.05, name


def seconds_for(opening: bytes, sent: bytes) -> float:
    """Processor time that a client's bytes take."""
    parser = Http2(max_streams=1000)
    parser.receive(CLIENT, opening)
    begin = time.process_time()
    parser.receive(CLIENT, sent)
    return time.process_time() - begin


def test_goaways_without_end_look_at_each_request_once() -> None:
    """Each names a lower stream than the one before."""
    parser = Http2()
    parser.receive(CLIENT, OPENING + b"".join(head(stream(i)) for i in range(5000)))
    parser.receive(SERVER, setting())
    begin = time.process_time()
    refused = parser.receive(
        SERVER, b"".join(frame(h2.GOAWAY, 0, 0, stream(i).to_bytes(4) + bytes(4)) for i in reversed(range(5000)))
    )
    assert len(refused) == 4999
    assert time.process_time() - begin < 1


@settings(patient, max_examples=20)
@given(conversations, cuts)
def test_what_is_over_is_forgotten(talk: Talk, at: list[int]) -> None:
    """Behind a conversation there is nothing open."""
    parser = Http2()
    for side, piece in cut(talk, at):
        parser.receive(side, piece)
    for half in (parser._client, parser._server):
        assert (half.open, half.frame, half.block, bytes(half.pending)) == ({}, None, None, b"")
    assert (parser._asked, parser._early) == ({}, set())
