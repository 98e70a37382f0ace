"""Laws of the HTTP/2 parser over conversations that hyper-h2 wrote: how bytes are cut does not matter, nothing that is
lost makes anything wrong, garbage raises one error and nothing else."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelbpf.protocols.base import Gap, Incomplete, Side, StreamMessage
from otelbpf.protocols.http2 import Http2
from tests.protocols.conversations import cuts, pieces
from tests.protocols.talks import Listener, Talk, conversations

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
Key = tuple[Side, int]


def by_stream(messages: list[StreamMessage]) -> dict[Key, StreamMessage]:
    """There is one of each."""
    found = {(message.side, message.stream): message for message in messages}
    assert len(found) == len(messages)
    return found


def cut(talk: Talk, at: list[int]) -> list[tuple[Side, bytes]]:
    """What each end sent, cut at these offsets of every piece."""
    return [(side, piece) for side, data in talk.pieces for piece in pieces(data, at)]


@patient
@given(conversations, cuts)
def test_any_cutting_gives_the_messages_that_were_written(talk: Talk, at: list[int]) -> None:
    """Every field of every message, however the bytes were cut."""
    listener = Listener().hear(cut(talk, at))

    assert listener.error is None
    assert by_stream(listener.messages) == by_stream(talk.messages)
    assert repr(listener.parser).endswith("open=0>")


@settings(patient, max_examples=30)
@given(conversations)
def test_one_byte_at_a_time(talk: Talk) -> None:
    """The finest cutting."""
    listener = Listener().hear(cut(talk, list(range(2000))))

    assert listener.error is None
    assert by_stream(listener.messages) == by_stream(talk.messages)


@patient
@given(conversations)
def test_either_side_may_come_first(talk: Talk) -> None:
    """What is recorded of one side may come late; where nothing was reset, all is told but who asked."""
    for first in Side:
        listener = Listener()
        for side in (first, Side(1 - first)):
            listener.hear([piece for piece in talk.pieces if piece[0] is side])
        assert listener.error is None
        found = by_stream(listener.messages)
        truth = by_stream(talk.messages)
        resets = {stream for (_, stream), message in truth.items() if message.reset >= 0}
        assert {key for key in truth if key[1] not in resets} <= found.keys() <= truth.keys()
        for key, message in found.items():
            if message.stream not in resets:
                assert message.end == truth[key].end
                assert message.body_size == truth[key].body_size


@patient
@given(conversations, cuts)
def test_needed_from_keeps_every_time_that_is_asked_for(talk: Talk, at: list[int]) -> None:
    """A begin is asked for when it is announced, the last byte when the end is: neither was forgotten before. A message
    that is announced once more because it was reset has been asked for before."""
    parser = Http2()
    begun: dict[int, int] = {}
    for side, piece in cut(talk, at):
        before = [parser.needed_from(each) for each in Side]
        for message in parser.receive(side, piece):
            if id(message) not in begun:
                assert message.begin >= before[message.side]
            if message.end >= 0 and begun.get(id(message), -1) < 0:
                assert message.end - 1 >= before[message.side]
            begun[id(message)] = message.end
        for each in Side:
            assert parser.needed_from(each) >= before[each]


losses = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 400), st.integers(1, 300)), min_size=1, max_size=3)
"""Which piece, where in it, how many bytes."""


def hear_with_losses(talk: Talk, at: list[int], gaps: list[tuple[int, int, int]], parser: Http2) -> Listener:
    """Pieces with holes: what is lost of a piece is told as a gap, the rest comes as pieces."""
    listener = Listener(parser)
    every = cut(talk, at)
    for number, (side, data) in enumerate(every):
        here = 0
        for which, where, size in sorted(gaps):
            if which % len(every) != number or where < here or where >= len(data):
                continue
            if where > here:
                listener.hear([(side, data[here:where])])
            here = min(where + size, len(data))
            listener.take(lambda s=side, n=here - where: parser.lose(s, Gap(n, deliberate=False)))
        if here < len(data):
            listener.hear([(side, data[here:])])
    return listener


def check(message: StreamMessage, truth: StreamMessage) -> None:
    """Nothing is told that is not so; what is not told is said to be missing."""
    beyond = message.incomplete is Incomplete.HEAD_BEYOND_LIMIT
    headless = beyond and message.head_end == message.begin
    if not headless:
        assert (message.begin, message.head_end) == (truth.begin, truth.head_end)
    for name, told, said in (
        (":method", message.method, truth.method),
        (":path", message.target, truth.target),
        (":status", message.status, truth.status),
    ):
        if told != said:
            assert not told
            assert name in message.unknown or beyond or (name == ":method" and message.side is Side.SERVER)
    assert message.headers.items() <= truth.headers.items()
    assert message.headers == truth.headers or "" in message.unknown or beyond
    # A head that ends its stream, and whose status is among what is unknown, looks like trailers: its fields are true.
    last = truth.trailers if "" not in message.unknown else truth.headers | truth.trailers
    assert message.trailers.items() <= last.items()
    assert message.body_size in (-1, truth.body_size) or message.reset >= 0
    assert message.parts in (-1, truth.parts) or message.reset >= 0
    if message.end >= 0 and message.incomplete is Incomplete.NONE and message.reset < 0 and truth.reset < 0:
        assert message.end == truth.end
        assert message.body_size == truth.body_size
        assert message.trailers == truth.trailers or "" in message.unknown


@settings(patient, max_examples=300)
@given(conversations, cuts, losses)
def test_a_loss_makes_nothing_wrong(talk: Talk, at: list[int], gaps: list[tuple[int, int, int]]) -> None:
    """Whatever is lost: every message that is announced was written so."""
    listener = hear_with_losses(talk, at, gaps, Http2())
    truth = by_stream(talk.messages)
    for message in listener.messages:
        check(message, truth[message.side, message.stream])
    assert len(by_stream(listener.messages)) <= len(truth)


@settings(patient, max_examples=300)
@given(conversations, cuts, st.integers(0, 60))
def test_joined_midway_nothing_is_wrong(talk: Talk, at: list[int], joined: int) -> None:
    """Joined at any piece: every message that is announced was written so."""
    every = cut(talk, at)
    joined %= len(every)
    begin = [sum(len(data) for each, data in every[:joined] if each is side) for side in Side]
    listener = Listener(Http2((begin[0], begin[1]), fresh=False)).hear(every[joined:])
    truth = by_stream(talk.messages)
    for message in listener.messages:
        check(message, truth[message.side, message.stream])
