"""Gaps: where the framing survives they are counted, elsewhere the parser gives up, and no message is ever wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from otelbpf.protocols.base import Gap, Incomplete, ProtocolError, Side
from otelbpf.protocols.detect import KNOWN_METHODS
from otelbpf.protocols.http1 import Http1
from tests.protocols.conversations import (
    Conversation,
    Exchange,
    Listener,
    build,
    conversations,
    cuts,
    exchanges,
    gap,
    lost,
    patient,
    pieces,
)

C, S = Side.CLIENT, Side.SERVER
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"\r\n0\r\n\r\n"


def asked(*more: bytes) -> Http1:
    """A parser whose client has asked."""
    parser = Http1()
    for data in (GET, *more):
        parser.receive(C, data)
    return parser


@pytest.mark.parametrize("deliberate", [True, False])
def test_a_gap_in_a_body_of_known_length_is_counted(deliberate: bool) -> None:
    """Its size is exact, and so is what follows."""
    parser = asked()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    (message,) = parser.receive(S, head + b"0123456789")
    assert parser.lose(S, Gap(50, deliberate)) == []
    assert parser.lose(S, Gap(40, deliberate)) == [message]
    assert (message.end, message.body_size, message.incomplete) == (len(head) + 100, 100, Incomplete.NONE)
    parser.receive(C, GET)
    assert [m.begin for m in parser.receive(S, OK)] == [message.end]


@pytest.mark.parametrize("deliberate", [True, False])
def test_a_gap_within_one_chunk_is_counted(deliberate: bool) -> None:
    """Up to the line break that closes it."""
    for size in (1, 6, 7, 8):
        parser = asked()
        (message,) = parser.receive(S, STREAM + b"8\r\n01")
        assert parser.lose(S, Gap(size, deliberate)) == []
        assert parser.receive(S, (b"234567\r\n" + b"1\r\nx" + LAST)[size:]) == [message]
        assert (message.body_size, message.incomplete) == (9, Incomplete.NONE)


@pytest.mark.parametrize("deliberate", [True, False])
def test_a_gap_that_goes_beyond_a_body_ends_the_parser(deliberate: bool) -> None:
    """The body is whole; whatever began behind it was not seen."""
    parser = asked()
    parser.receive(S, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    with pytest.raises(ProtocolError) as caught:
        parser.lose(S, Gap(101, deliberate))
    (message,) = caught.value.messages
    assert message.body_size == 100


LOST_FRAMING = [b"", b"HTTP/1.1 200 OK\r\nServer: x", STREAM, STREAM + b"5", STREAM + b"5\r\nhel", STREAM + b"0\r\n"]


@pytest.mark.parametrize("seen", LOST_FRAMING)
def test_bytes_that_frame_and_were_lost_end_the_parser(seen: bytes) -> None:
    """In a head, between chunks, between messages."""
    parser = asked()
    parser.receive(S, seen)
    with pytest.raises(ProtocolError):
        parser.lose(S, lost(8))


@pytest.mark.parametrize("seen", [b"", b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\nA"])
def test_a_head_without_its_first_line_is_not_announced(seen: bytes) -> None:
    """However deliberate the gap. An interim head is no message either."""
    parser = asked()
    parser.receive(S, seen)
    with pytest.raises(ProtocolError):
        parser.lose(S, gap(8))


def test_a_gap_of_nothing_is_none() -> None:
    """Wherever it falls."""
    parser = asked(GET[:9])
    for side in Side:
        assert parser.lose(side, lost(0)) == parser.lose(side, gap(0)) == []
    assert [m.begin for m in parser.receive(C, GET[9:])] == [len(GET)]


_INFERRED = (Incomplete.HEAD_BEYOND_LIMIT, Incomplete.BODY_SIZE_UNKNOWN)


def _plain(exchange: Exchange) -> Exchange:
    """No body that looks like a last chunk."""
    pieces_, answer = (
        [piece for piece in part if b"0\r\n" not in piece] for part in (exchange.pieces, exchange.answer)
    )
    return replace(exchange, pieces=pieces_, answer=answer)


def _simple(exchange: Exchange) -> Exchange:
    """A known method and one response head."""
    known = exchange.method.encode() in KNOWN_METHODS
    return replace(exchange, method=exchange.method if known else "POST", interim=[])


plain = exchanges.map(_plain)


# -- laws --------------------------------------------------------------------------------------------------------------


def check_equal(listener: Listener, conversation: Conversation, *, inferred: bool, bursts_of_one: bool) -> None:
    """No announced message differs from what was written, and responses stand in the order of their requests."""
    written = {side: conversation.of(side) for side in Side}
    order = {side: sorted(written[side]) for side in Side}
    pairs: dict[Side, list[int]] = {side: [] for side in Side}
    # A client that pipelines for the first time where nobody sees it: then an inferred end may be that of a later one.
    hidden = any(m.side is C and m.incomplete in _INFERRED for m in listener.messages)
    for message in listener.messages:
        original = written[message.side][message.begin]
        pairs[message.side].append(order[message.side].index(message.begin))
        said = (message.method, message.target, message.status, message.version)
        assert said == (original.method, original.target, original.status, original.version)
        if message.incomplete is Incomplete.NONE:
            assert message.head_end == original.head_end
            assert message.headers == original.headers
            if message.end >= 0:
                assert (message.end, message.body_size) == (original.end, original.body_size)
        elif message.incomplete is Incomplete.CLOSED:
            assert listener.error is None
        else:
            assert inferred
            assert message.body_size == -1
            for name, value in message.headers.items():
                # A repetition may stand in the part that was not seen.
                assert (original.headers[name] + ", ").startswith(value + ", ")
            if message.end >= 0 and (bursts_of_one or (message.side is S and not hidden)):
                assert message.end == original.end
        event(f"{message.incomplete or 'whole'} {message.side.name} {'ended' if message.end >= 0 else 'open'}")
    answered = len(pairs[S])
    assert pairs[S] == pairs[C][:answered]


@settings(patient, max_examples=150)
@given(conversations, cuts, st.integers(0, 5), st.integers(0, 600), st.integers(1, 200))
def test_losing_any_bytes_never_makes_a_wrong_message(
    conversation: Conversation, at: list[int], which: int, begin: int, size: int
) -> None:
    """Whatever range of whichever side: equal to what was written, or an error, or silence."""
    listener = Listener()
    turns = [(side, data) for burst in conversation.bursts for side, data in ((C, burst.client), (S, burst.server))]
    for number, (side, data) in enumerate(turns):
        if number != which % len(turns) or begin >= len(data):
            for piece in pieces(data, at):
                listener.receive(side, piece)
            continue
        missing = min(size, len(data) - begin)
        for piece in pieces(data[:begin], at):
            listener.receive(side, piece)
        listener.take(lambda side=side, missing=missing: listener.parser.lose(side, lost(missing)))
        for piece in pieces(data[begin + missing :], at):
            listener.receive(side, piece)
    event("given up" if listener.error else "survived")

    check_equal(listener, conversation, inferred=False, bursts_of_one=False)


def one_at_a_time(of: st.SearchStrategy[Exchange]) -> st.SearchStrategy[Conversation]:
    """Conversations without pipelining."""
    bursts = st.lists(st.lists(of, min_size=1, max_size=1), min_size=1, max_size=4)
    return st.builds(build, bursts, st.none() | st.binary(max_size=30))


def budgeted(listener: Listener, side: Side, data: bytes, at: list[int], budget: int) -> None:
    """A turn as the kernel copies it: the first `budget` bytes, then lengths and the last eight bytes of each call."""
    for piece in pieces(data, at):
        seen, rest = piece[:budget], piece[budget:]
        budget -= len(seen)
        if seen:
            listener.receive(side, seen)
        if rest:
            listener.take(lambda rest=rest: listener.parser.lose(side, gap(len(rest), rest[-8:])))


@settings(patient, max_examples=150)
@given(
    one_at_a_time(plain) | st.builds(build, st.lists(st.lists(plain, min_size=1, max_size=3), max_size=3)),
    cuts,
    cuts,
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_what_is_beyond_the_budget_never_makes_a_wrong_message(
    conversation: Conversation, client_cuts: list[int], server_cuts: list[int], client: int, server: int
) -> None:
    """Equal to what was written where it is not marked; marked, with nothing but the truth, where it is."""
    listener = Listener()
    for burst in conversation.bursts:
        budgeted(listener, C, burst.client, client_cuts, client)
        budgeted(listener, S, burst.server, server_cuts, server)
    if listener.error is None and not conversation.closes:
        listener.close()
    event("given up" if listener.error else "survived")

    alone = all(burst.requests == 1 for burst in conversation.bursts)
    check_equal(listener, conversation, inferred=True, bursts_of_one=alone)


@settings(patient, max_examples=60)
@given(one_at_a_time(plain.map(_simple)), cuts, cuts)
def test_one_exchange_at_a_time_survives_any_budget_that_holds_first_lines(
    conversation: Conversation, client_cuts: list[int], server_cuts: list[int]
) -> None:
    """With 200 bytes of each turn every exchange is told, in order."""
    listener = Listener()
    for burst in conversation.bursts:
        budgeted(listener, C, burst.client, client_cuts, 200)
        budgeted(listener, S, burst.server, server_cuts, 200)
    listener.close()

    assert listener.error is None
    assert [(m.side, m.begin) for m in listener.messages] == [(m.side, m.begin) for m in conversation.messages]
