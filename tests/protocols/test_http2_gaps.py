"""What becomes of a conversation when bytes of it were not seen."""

from __future__ import annotations

import pytest

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Gap, Incomplete, ProtocolError, Side, StreamMessage
from otelbpf.protocols.http2 import Http2
from otelbpf.protocols.http2_flow import MAX_SOUGHT
from otelbpf.protocols.http2_seek import begins_with_frames
from tests.protocols.frames import END, GET, OK_GRPC, OPENING, POST_GRPC, data, frame, head, part, settings
from tests.protocols.talks import Listener

CLIENT, SERVER = Side
SIZES = range(1, 40)


def begun(block: bytes = GET, flags: int = END) -> Listener:
    """Both sides have begun, and the client has asked on stream 1."""
    listener = Listener()
    listener.hear([(CLIENT, OPENING), (SERVER, settings()), (CLIENT, head(1, block, flags))])
    assert len(listener.messages) == 1
    return listener


def lose(listener: Listener, side: Side, size: int, *, deliberate: bool = False) -> None:
    listener.take(lambda: listener.parser.lose(side, Gap(size, deliberate=deliberate)))


@pytest.mark.parametrize("deliberate", [False, True])
@pytest.mark.parametrize("where", range(21))
def test_content_that_was_not_seen_is_counted(where: int, deliberate: bool) -> None:
    """Anywhere in a frame, up to its end, and several times."""
    listener = begun()
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS))])
    content = data(1, b"x" * 20)
    listener.hear([(SERVER, content[: 9 + where])])
    lose(listener, SERVER, 20 - where, deliberate=deliberate)
    listener.hear([(SERVER, data(1, b"y" * 7, h2.END_STREAM))])

    response = listener.messages[1]
    assert (response.body_size, response.incomplete, listener.parser.seeks(SERVER)) == (27, Incomplete.NONE, False)
    assert response.end == 9 + 10 + 29 + 16


def test_the_end_of_the_stream_may_lie_in_a_gap() -> None:
    """If the frame's header was seen, and even if the gap goes on behind it."""
    listener = begun()
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS) + data(1, b"x" * 20, h2.END_STREAM)[:12])])
    lose(listener, SERVER, 17 + 5)

    response = listener.messages[1]
    assert (response.body_size, response.end, response.incomplete) == (20, 48, Incomplete.NONE)
    assert listener.parser.seeks(SERVER)


def test_padding_that_was_not_seen_leaves_the_size_unknown() -> None:
    """Its length stands before the content."""
    listener = begun()
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS) + frame(h2.DATA, h2.PADDED, 1, b"", 20))])
    lose(listener, SERVER, 20)
    listener.hear([(SERVER, data(1, b"y", h2.END_STREAM))])

    response = listener.messages[1]
    assert (response.body_size, response.incomplete) == (-1, Incomplete.BODY_SIZE_UNKNOWN)


def test_padding_that_was_seen_is_subtracted() -> None:
    """Whatever of the rest was not."""
    for seen in range(1, 21):
        listener = begun()
        padded = frame(h2.DATA, h2.PADDED | h2.END_STREAM, 1, b"\x05" + b"x" * 14 + b"\0" * 5)
        listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS) + padded[: 9 + seen])])
        lose(listener, SERVER, 20 - seen)
        assert listener.messages[1].body_size == 14


def test_parts_are_counted_where_their_prefixes_were_seen() -> None:
    """The kernel copies five bytes of every DATA frame: of one message a frame, all are known."""
    listener = begun(POST_GRPC, h2.END_HEADERS)
    for size in (1000, 0, 70_000 % 16384):
        content = data(1, part(b"x" * size))
        listener.hear([(CLIENT, content[:14])])
        lose(listener, CLIENT, size, deliberate=True)
    listener.hear([(CLIENT, data(1, b"", h2.END_STREAM))])
    assert listener.messages[0].parts == 3

    listener.hear([(SERVER, head(1, OK_GRPC, h2.END_HEADERS))])
    content = data(1, part(b"x" * 10) + part(b"y" * 10), h2.END_STREAM)
    listener.hear([(SERVER, content[:14])])
    lose(listener, SERVER, len(content) - 14, deliberate=True)
    assert listener.messages[1].parts == -1
    assert listener.messages[1].body_size == 30


def test_a_header_block_that_is_cut_tells_what_is_whole() -> None:
    """The framing survives; what later blocks refer to does not."""
    listener = begun()
    block = GET + b"\x40\x0fx-forwarded-for\x011"
    request = head(3, block)
    for stream, seen in ((3, 9 + 2), (5, 9 + len(GET))):
        request = head(stream, block)
        listener.hear([(CLIENT, request[:seen])])
        lose(listener, CLIENT, len(request) - seen)
    listener.hear([(CLIENT, head(7, b"\x82\x86\x84\xbe"))])

    first, second, third = listener.messages[1:]
    assert (first.method, first.target, first.incomplete) == ("GET", "", Incomplete.HEAD_BEYOND_LIMIT)
    assert (second.target, second.headers["host"]) == ("/", "h")
    assert second.incomplete is Incomplete.HEAD_BEYOND_LIMIT
    assert (third.target, set(third.unknown), third.incomplete) == ("/", {"", ":authority"}, Incomplete.NONE)
    assert listener.error is None


@pytest.mark.parametrize("size", SIZES)
def test_framing_that_was_lost_is_found_where_a_call_begins_with_frames(size: int) -> None:
    """What came in between is passed over; the responses that were begun have no size."""
    listener = begun()
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS) + data(1, b"x" * 20))])
    lose(listener, SERVER, size)
    listener.hear([(SERVER, b"content of a frame whose header is lost"), (SERVER, data(1, b"y" * 9, h2.END_STREAM))])

    response = listener.messages[1]
    assert listener.error is None
    assert (response.status, response.body_size, response.incomplete) == (200, -1, Incomplete.BODY_SIZE_UNKNOWN)
    assert response.end == 9 + 10 + 29 + size + 39 + 18


def test_a_response_whose_head_was_lost_is_told_as_far_as_it_is_known() -> None:
    """Its content goes on, so it has begun; a request that came later has its own."""
    listener = begun()
    lose(listener, SERVER, 10)
    listener.hear([(CLIENT, head(3, b"\x82\x86\x84\xbe")), (SERVER, data(1, b"y" * 9, h2.END_STREAM))])
    listener.hear([(SERVER, head(3, b"\x88", END))])

    lost, seen = listener.messages[2:]
    assert (lost.stream, lost.method, lost.status, lost.body_size) == (1, "GET", 0, -1)
    assert (lost.incomplete, set(lost.unknown)) == (Incomplete.HEAD_BEYOND_LIMIT, {"", ":status"})
    assert (lost.begin, lost.head_end, lost.end) == (19, 19, 37)
    assert (seen.stream, seen.status, seen.incomplete) == (3, 200, Incomplete.NONE)


def test_a_response_that_began_where_frames_were_sought() -> None:
    """Its request came when the framing was lost already."""
    listener = begun()
    lose(listener, SERVER, 10)
    listener.hear([(CLIENT, head(3)), (SERVER, b"the end of something" + head(3, b"\x88", h2.END_HEADERS))])
    listener.hear([(SERVER, data(3, b"x", h2.END_STREAM))])
    assert [(message.side, message.stream, message.status) for message in listener.messages[2:]] == [(SERVER, 3, 0)]


def test_content_without_a_head_is_none_where_nothing_was_lost() -> None:
    """It is malformed, or belongs to nobody."""
    listener = begun()
    listener.hear([(SERVER, data(1, b"x", h2.END_STREAM)), (SERVER, data(3, b"x"))])
    assert (len(listener.messages), listener.error) == (1, None)


def test_trailers_of_a_response_whose_head_was_lost() -> None:
    """A call's status stands in them."""
    listener = begun(POST_GRPC)
    lose(listener, SERVER, 10)
    listener.hear([(SERVER, head(1, b"\x00\x0btraceparent\x01t", END))])

    assert (listener.messages[1].status, listener.messages[1].trailers) == (0, {"traceparent": "t"})


def test_a_request_whose_end_was_lost_ends_with_its_response() -> None:
    """Where its side then stands; that is inferred, and its size is not known."""
    listener = begun(GET, h2.END_HEADERS)
    listener.hear([(CLIENT, data(1, b"x" * 10))])
    lose(listener, CLIENT, 30)
    listener.hear([(SERVER, head(1, b"\x88"))])

    request = listener.messages[0]
    assert (request.incomplete, request.body_size) == (Incomplete.BODY_SIZE_UNKNOWN, -1)
    assert request.end == len(OPENING) + 15 + 19 + 30


def test_a_table_that_was_lost_says_so() -> None:
    """A reference to what the first request inserted is unknown behind a loss."""
    listener = begun()
    lose(listener, CLIENT, 13)
    listener.hear(
        [(CLIENT, head(3, b"\x82\x86\x84\xbe")), (CLIENT, head(5, GET)), (CLIENT, head(7, b"\x82\x86\x84\xbe"))]
    )

    assert [message.headers.get("host") for message in listener.messages] == ["h", None, "h", "h"]
    assert [message.unknown for message in listener.messages] == [set(), {"", ":authority"}, set(), set()]


def test_a_lost_opening_is_as_if_joined_midway() -> None:
    """The preface, or the settings."""
    for side, rest in ((CLIENT, head(1)), (SERVER, head(1, b"\x88"))):
        listener = Listener()
        lose(listener, side, 33)
        listener.hear([(side, rest)])
        assert listener.error is None
        assert [message.stream for message in listener.messages] == [1]


def test_lost_settings_may_have_allowed_longer_frames() -> None:
    """Of the other side; what this side sends is as long as it was."""
    listener = begun(GET, h2.END_HEADERS)
    lose(listener, SERVER, 10)
    listener.hear([(CLIENT, data(1, bytes(20_000), h2.END_STREAM))])
    assert listener.messages[0].body_size == 20_000
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS)), (SERVER, data(1, bytes(16_385)))])
    assert listener.error is not None


def test_a_stream_that_cannot_be_is_no_sign_of_a_frame() -> None:
    """Numbers grow by two a request, so one far ahead of all is none."""
    for stream, seeks in ((2001, False), (2_000_001, True)):
        listener = begun()
        lose(listener, SERVER, 10)
        listener.hear([(SERVER, head(stream, b"\x88"))])
        assert listener.parser.seeks(SERVER) is seeks


def test_a_boundary_is_not_sought_for_ever() -> None:
    """The session is told then that there is none."""
    listener = begun()
    lose(listener, SERVER, 10)
    listener.hear([(SERVER, b"no frame begins so")] * MAX_SOUGHT)
    assert listener.error is None
    listener.hear([(SERVER, b"no frame begins so")])
    assert listener.error is not None


def test_where_the_next_frame_begins() -> None:
    """At once, or behind the payload that is running; elsewhere it is not known."""
    listener = Listener()
    parser = listener.parser
    said = []
    sent = OPENING + head(1, flags=h2.END_HEADERS) + data(1, b"content")
    for at in range(len(sent)):
        listener.hear([(CLIENT, sent[at : at + 1])])
        said.append(parser.next_frame(CLIENT))
    ends = (len(OPENING), len(OPENING) + 15, len(sent))
    assert said[: ends[0] - 1] == [-1] * (ends[0] - 1)
    assert said[ends[0] - 1 : ends[1] - 1] == [ends[0]] + [-1] * 8 + [ends[1]] * 6
    assert said[ends[1] - 1 :] == [ends[1]] + [-1] * 8 + [ends[2]] * 8
    lose(listener, CLIENT, 5)
    assert parser.next_frame(CLIENT) == -1


def test_loss_before_a_close_and_behind_it() -> None:
    """What is open is closed; behind it nothing may come."""
    listener = begun(GET, h2.END_HEADERS)
    listener.hear([(CLIENT, data(1, b"x" * 10)[:14])])
    listener.take(lambda: listener.parser.close(CLIENT))
    request = listener.messages[0]
    assert (request.incomplete, request.body_size) == (Incomplete.CLOSED, 5)
    with pytest.raises(ProtocolError):
        listener.parser.lose(CLIENT, Gap(1, deliberate=False))


# What a joined listener cannot know: statuses that stand in the table are said by an index alone.
UNKNOWN = b"\xbe"
KNOWN = b"\x88\x00\x0btraceparent\x01t"


def answered(*blocks: tuple[bytes, int]) -> StreamMessage:
    """The response to the first request, the server's table being unknown."""
    listener = begun()
    lose(listener, SERVER, 10)
    for block, flags in blocks:
        listener.hear([(SERVER, head(1, block, h2.END_HEADERS | flags))])
    assert listener.error is None
    assert [message.side for message in listener.messages] == [CLIENT, SERVER]
    return listener.messages[1]


def test_a_response_whose_status_is_unknown() -> None:
    """Until a block behind it tells that it was an interim one."""
    alone = answered((UNKNOWN, 0))
    assert (alone.begin, alone.status, set(alone.unknown), alone.end) == (19, 0, {"", ":status"}, -1)
    for interims in ([UNKNOWN], [UNKNOWN, UNKNOWN], [UNKNOWN, b"\x48\x03103"]):
        final = answered(*((block, 0) for block in interims), (KNOWN, 0))
        assert (final.status, final.headers, set(final.unknown), final.end) == (200, {"traceparent": "t"}, set(), -1)
        assert final.begin == 19 + sum(9 + len(block) for block in interims)
        final = answered(*((block, 0) for block in interims), (KNOWN, h2.END_STREAM))
        assert (final.status, final.end - final.begin, final.body_size) == (200, 9 + len(KNOWN), 0)


def test_trailers_or_a_second_response_nobody_can_tell() -> None:
    """Two blocks without a known status, and no content between them: neither is told to be the head."""
    message = answered((UNKNOWN + KNOWN[1:], 0), (UNKNOWN + KNOWN[1:], h2.END_STREAM))
    assert (message.headers, message.trailers, message.head_end, message.end >= 0) == ({}, {}, message.begin, True)
    assert message.incomplete is Incomplete.HEAD_BEYOND_LIMIT


def test_trailers_behind_content_are_trailers() -> None:
    """Whatever is known of their response, and of themselves."""
    listener = begun()
    lose(listener, SERVER, 10)
    listener.hear([(SERVER, head(1, UNKNOWN, h2.END_HEADERS)), (SERVER, data(1, b"x"))])
    listener.hear([(SERVER, head(1, UNKNOWN + KNOWN[1:]))])
    message = listener.messages[1]
    assert (message.headers, message.trailers, message.body_size) == ({}, {"traceparent": "t"}, 1)


def test_trailers_of_what_began_before_are_no_message() -> None:
    """Of a request or a response; the stream is known to be old."""
    listener = Listener(Http2((5, 5), fresh=False))
    for side in Side:
        listener.hear([(side, head(7, b"\x00\x0btraceparent\x01t")), (side, data(7, b"late", h2.END_STREAM))])
    listener.hear([(CLIENT, head(7, GET)), (CLIENT, head(9, GET))])
    assert listener.error is None
    assert [(message.stream, message.target) for message in listener.messages] == [(9, "/")]


def test_a_response_that_is_heard_before_its_request() -> None:
    """Whole, or only begun: each is told, and nothing stays open."""
    for ends in (h2.END_STREAM, 0):
        listener = Listener().hear(
            [(SERVER, settings() + head(1, b"\x88", h2.END_HEADERS | ends)), (CLIENT, OPENING + head(1))]
        )
        if not ends:
            listener.hear([(SERVER, data(1, b"x", h2.END_STREAM))])
        assert [(message.side, message.end >= 0) for message in listener.messages] == [(SERVER, True), (CLIENT, True)]
        assert repr(listener.parser).endswith("open=0>")


def test_payloads_that_were_not_seen_whole() -> None:
    """A reset without its code, settings, a promise and a goaway that nobody knows of."""
    listener = begun()
    for sent, seen in (
        (frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x02" + GET), 11),
        (frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x04" + GET), 13),
        (settings(_5=100_000), 12),
        (frame(h2.GOAWAY, 0, 0, bytes(8)), 11),
    ):
        listener.hear([(SERVER, sent[:seen])])
        lose(listener, SERVER, len(sent) - seen)
    promised = listener.messages[1]
    assert (promised.stream, promised.method, promised.incomplete) == (4, "", Incomplete.HEAD_BEYOND_LIMIT)
    listener.hear([(CLIENT, head(3, flags=h2.END_HEADERS) + frame(h2.DATA, 0, 3, bytes(100_000)))])
    for stream in (1, 3):
        listener.hear([(SERVER, frame(h2.RST_STREAM, 0, stream, b"", 4))])
        lose(listener, SERVER, 4)
    for message in (listener.messages[0], listener.messages[2]):
        assert (message.reset, message.incomplete, message.end >= 0) == (-1, Incomplete.CLOSED, True)
    assert listener.messages[2].body_size == 100_000
    assert listener.error is None


def test_a_continued_block_that_is_cut() -> None:
    """In its first frame: what its other frames hold is no part of what is known."""
    listener = begun()
    request = head(3, b"\x82\x86" + b"\x84\x85" + b"\x41\x01i", pieces=3)
    listener.hear([(CLIENT, request[:10])])
    lose(listener, CLIENT, 2)
    listener.hear([(CLIENT, request[12:])])
    message = listener.messages[1]
    assert (message.method, message.target, message.headers) == ("GET", "", {})
    assert (message.incomplete, message.head_end - message.begin) == (Incomplete.HEAD_BEYOND_LIMIT, len(request))


def test_trailers_that_are_cut() -> None:
    """Tell what is whole."""
    listener = begun()
    listener.hear([(SERVER, head(1, b"\x88", h2.END_HEADERS) + head(1, KNOWN[1:] * 2)[:-3])])
    lose(listener, SERVER, 3)
    message = listener.messages[1]
    assert (message.trailers, message.incomplete) == ({"traceparent": "t"}, Incomplete.HEAD_BEYOND_LIMIT)


@pytest.mark.parametrize(
    "call",
    [
        head(1),
        head(5, GET * 3, pieces=3),
        data(3, b"content"),
        frame(h2.PING, 0, 0, bytes(8)),
        frame(h2.PING, h2.ACK, 0, b"anything"),
        settings(_1=4096, _3=100),
        frame(h2.SETTINGS, h2.ACK),
        frame(h2.RST_STREAM, 0, 1, b"\0\0\0\x08"),
        frame(h2.GOAWAY, 0, 0, b"\0\0\0\x07\0\0\0\0debug"),
        frame(h2.WINDOW_UPDATE, 0, 0, b"\0\0\xff\xff"),
        frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x02" + GET),
        frame(h2.PRIORITY, 0, 3, b"\0\0\0\0\x0f"),
        frame(h2.DATA, h2.PADDED, 3, b"\x01ab"),
        head(1) + data(1, b"", h2.END_STREAM),
        head(1) + head(3) + head(5) + b"\0\0",
    ],
)
def test_where_frames_begin(call: bytes) -> None:
    """And nowhere else in them."""
    assert begins_with_frames(call)
    assert not any(begins_with_frames(call[at:]) for at in range(1, len(call)))


@pytest.mark.parametrize(
    "call",
    [
        b"",
        head(1)[:8],
        head(1)[:12],
        head(1) + b"\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
        bytes(100),
        b"\xff" * 100,
        part(b"x" * 5),
        data(0, b"on no stream"),
        data(1, b""),
        data(1, b"", h2.END_STREAM),
        frame(h2.CONTINUATION, h2.END_HEADERS, 1, GET),
        frame(h2.HEADERS, 0, 1, GET) + data(1, b"amid a block"),
        frame(h2.HEADERS, 0x40, 1, GET),
        frame(h2.DATA, 0, 1, bytes(16385)),
        frame(h2.DATA, h2.PADDED, 1, b"\x04abc"),
        frame(h2.PING, 0, 0, b"short"),
        frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)),
        frame(h2.RST_STREAM, 0, 1, b"much"),
        frame(h2.GOAWAY, 0, 0, b"\xff\xff\xff\xff\0\0\0\0"),
        frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0"),
        frame(16, 0, 0, b"an extension"),
    ],
)
def test_where_none_is_believed_to_begin(call: bytes) -> None:
    """Or none can be told to."""
    assert not begins_with_frames(call)
