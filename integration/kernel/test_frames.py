"""HTTP/2 is walked frame by frame, however it is cut: what says what others mean is copied whole, DATA is counted."""

from __future__ import annotations

import random

import pytest

from integration.kernel import frames, workload
from integration.kernel.conftest import Run
from integration.kernel.frames import (
    ALTSVC,
    CHUNK,
    CONTINUATION,
    DATA,
    FRAME_LIMIT,
    GOAWAY,
    GREETING,
    HEADERS,
    OPENING,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RESET,
    SETTINGS,
    SMALL_DATA,
    Step,
    assert_walk,
    frame,
    in_calls,
    number,
)
from integration.kernel.recorder import Piece, Recorder, Side
from otelbpf.events.wire import Unseen

HEAD = frame(HEADERS, number(60))
TRAILERS = frame(HEADERS, number(20), flags=1)
LARGE = frame(DATA, number(100_000))
"""Too long for the default of SETTINGS_MAX_FRAME_SIZE; a peer may allow it."""
CONVERSATION = b"".join(
    (
        frame(HEADERS, number(70), flags=4),
        frame(DATA, number(16384)),
        frame(DATA),
        frame(DATA, number(SMALL_DATA)),
        frame(DATA, number(SMALL_DATA + 1)),
        frame(DATA, b"\5" + number(3000), flags=PADDED),
        frame(PRIORITY, number(5)),
        frame(RESET, number(4)),
        frame(SETTINGS, number(6), stream=0),
        frame(SETTINGS, flags=1, stream=0),
        frame(PUSH, number(700)),
        frame(PING, number(8), stream=0),
        frame(ALTSVC, number(40)),
        frame(ALTSVC, number(2000)),
        frame(HEADERS, number(9000)),
        frame(CONTINUATION, number(1000), flags=4),
        frame(DATA, number(5000)),
        frame(GOAWAY, number(600), stream=0),
    )
)
"""A frame of every kind, in an order that RFC 9113 would not have."""


def assert_balanced(side: Side) -> None:
    """Every byte the kernel counted was told."""
    last = side.last
    told = [sum(len(p.data) if p.length < 0 else p.length for p in way) for way in (side.received, side.sent)]
    assert told == [last.received, last.sent]
    assert (last.lost_received, last.lost_sent, last.muted_received, last.muted_sent) == (0, 0, 0, 0)


def assert_walked(recorder: Recorder, found: workload.Ports, steps: list[Step]) -> tuple[Side, Side]:
    """Both ends tell exactly the walk of what was sent; what the client and the server told."""
    client, server = recorder.side(*found), recorder.side(*reversed(found))
    for by_client, sent, received in ((True, client.sent, server.received), (False, server.sent, client.received)):
        calls = [step.data for step in steps if step.client is by_client]
        stream = b"".join(calls)
        assert_walk(sent, stream)
        assert_walk(received, stream)
        begins = [sum(map(len, calls[:count])) for count in range(len(calls))]
        assert [piece.offset for piece in sent if not piece.continued] == begins
    assert_balanced(client)
    assert_balanced(server)
    return client, server


def test_what_says_what_others_mean_is_one_record(recorder: Recorder, do: Run) -> None:
    steps = [Step(True, [OPENING + HEAD]), Step(False, [GREETING + HEAD + frame(DATA, number(100)) + TRAILERS])]
    client, server = assert_walked(recorder, do(frames.talk, steps), steps)

    assert client.sent == server.received == [Piece(0, steps[0].data)]
    assert server.sent == client.received == [Piece(0, steps[1].data)]


def test_of_much_data_the_first_bytes_are_copied(recorder: Recorder, do: Run) -> None:
    steps = [Step(True, [OPENING]), Step(False, [GREETING]), Step(False, [HEAD + LARGE + TRAILERS])]
    _, server = assert_walked(recorder, do(frames.talk, steps), steps)

    begin = len(GREETING)
    head = HEAD + LARGE[:14]
    assert server.sent == [
        Piece(0, GREETING),
        Piece(begin, head, len(HEAD + LARGE), Unseen.BUDGET),
        Piece(begin + len(HEAD + LARGE), TRAILERS, continued=True),
    ]


@pytest.mark.parametrize("reads", [1, 2, 8, 9, 10, 100, 521, 1000, 8192, 20000])
def test_any_cutting_is_the_same_walk(recorder: Recorder, do: Run, reads: int) -> None:
    """Sent in pieces of one size, read in those of another."""
    # A few bytes a call are slow: something of each kind will do.
    short = frame(HEADERS, number(7)) + frame(DATA, number(600)) + TRAILERS
    stream = CONVERSATION if reads > 99 else short + frame(DATA, number(23)) + short
    steps = [
        *in_calls(OPENING, 60, client=True),
        *in_calls(stream, reads, client=True, reads=max(reads * 2 // 3, 1)),
        Step(False, [GREETING]),
        *in_calls(stream, 20000, client=False, reads=reads),
    ]

    assert_walked(recorder, do(frames.talk, steps), steps)


@pytest.mark.parametrize("size", [1, 4, 9, 23, 600])
def test_any_number_of_segments_is_the_same_walk(recorder: Recorder, do: Run, size: int) -> None:
    stream = HEAD + frame(DATA, number(700)) + TRAILERS + frame(DATA) + frame(PING, number(8))
    vector = [stream[at : at + size] for at in range(0, len(stream), size)]
    steps = [Step(True, [OPENING[:24], b"", OPENING[24:]]), Step(True, vector), Step(True, [HEAD])]

    assert_walked(recorder, do(frames.talk, steps), steps)


def test_a_segment_a_frame_as_servers_write_them(recorder: Recorder, do: Run) -> None:
    body = [part for at in range(20) for part in (frame(DATA, bytes(8192))[:9], number(8192, at))]
    steps = [Step(True, [OPENING]), Step(False, [GREETING, HEAD[:9], HEAD[9:], *body, TRAILERS[:9], TRAILERS[9:]])]
    _, server = assert_walked(recorder, do(frames.talk, steps), steps)

    assert len(server.sent) == 21


def test_a_header_block_is_copied_up_to_a_limit(recorder: Recorder, do: Run) -> None:
    long = frame(HEADERS, number(FRAME_LIMIT + 3616))
    steps = [Step(True, [OPENING]), Step(True, [long + TRAILERS])]
    client, _ = assert_walked(recorder, do(frames.talk, steps), steps)

    begin, behind = len(OPENING), len(OPENING) + len(long)
    assert client.sent == [
        Piece(0, OPENING),
        Piece(begin, long[:CHUNK]),
        Piece(begin + CHUNK, long[CHUNK : 2 * CHUNK], continued=True),
        Piece(begin + 2 * CHUNK, long[2 * CHUNK : FRAME_LIMIT + 9], 3616 + 9, Unseen.BUDGET, continued=True),
        Piece(behind, TRAILERS, continued=True),
    ]


def test_a_server_may_begin(recorder: Recorder, do: Run) -> None:
    steps = [Step(False, [GREETING]), Step(True, [OPENING + HEAD + LARGE]), Step(False, [HEAD + LARGE + TRAILERS])]

    assert_walked(recorder, do(frames.talk, steps), steps)


def test_hundreds_of_frames_in_a_call(recorder: Recorder, do: Run) -> None:
    many = b"".join(frame(HEADERS, number(10 + at % 23, at), stream=2 * at + 1) for at in range(1500))
    steps = [Step(True, [OPENING]), Step(True, [many]), Step(True, [LARGE + TRAILERS])]

    assert_walked(recorder, do(frames.talk, steps), steps)


def test_too_many_frames_in_a_call_lose_the_place(recorder: Recorder, do: Run) -> None:
    flood = frame(PING, number(8), stream=0) * 10_000
    behind = HEAD + frame(DATA, number(20_000))
    steps = [Step(True, [OPENING]), Step(True, [flood], 10_000), Step(True, [behind])]
    found = do(frames.talk, steps)
    client, server = recorder.side(*found), recorder.side(*reversed(found))

    begin = len(OPENING + flood)
    *walked, last = [piece for piece in client.sent if 0 < piece.offset < begin]
    assert b"".join(piece.data for piece in (*walked, last)) == flood[: last.offset + len(last.data) - len(OPENING)]
    assert (last.offset + last.length, last.unseen) == (begin, Unseen.SEGMENTS)
    assert client.sent[-3:] == [
        Piece(begin + at, behind[at : at + CHUNK], continued=at > 0) for at in range(0, len(behind), CHUNK)
    ]
    # The reader took fewer at once, and so did not lose it.
    assert_walk(server.received, OPENING + flood + behind)
    assert_balanced(client)
    assert_balanced(server)


@pytest.mark.parametrize("seed", range(5))
def test_random_frames_in_random_pieces(recorder: Recorder, do: Run, seed: int) -> None:
    choose = random.Random(seed)
    steps = [Step(True, [OPENING]), Step(False, [GREETING])]
    for client in (True, False):
        stream = b"".join(
            frame(
                choose.choice((DATA, HEADERS, CONTINUATION, PING, ALTSVC)),
                number(choose.choice((0, 8, 100, 511, 512, 513, 8183, 8192, 16384, 30000)) + choose.randrange(9), at),
                flags=choose.choice((0, PADDED)),
            )
            for at in range(40)
        )
        while stream:
            vector = []
            for _ in range(choose.choice((1, 1, 3, 40))):
                size = choose.choice((1, 9, 14, 1000, 9000, 70000))
                vector.append(stream[:size])
                stream = stream[size:]
            steps.append(Step(client, vector, choose.choice((0, 100, 4096, 16393))))

    assert_walked(recorder, do(frames.talk, steps), steps)


def test_data_by_sendfile_is_gone_over(recorder: Recorder, do: Run) -> None:
    before, file, behind = HEAD + LARGE[:9], LARGE[9:], TRAILERS + LARGE + TRAILERS
    found = do(frames.with_sendfile, before, file, behind)
    server = recorder.side(*reversed(found))

    begin = len(GREETING + before)
    first, second, *pages, third, fourth = server.sent
    assert [first, second] == [Piece(0, GREETING), Piece(len(GREETING), before)]
    assert {page.unseen for page in pages} == {Unseen.SENDFILE}
    assert sum(page.length for page in pages) == len(file)
    begin += len(file)
    assert [third, fourth] == [
        Piece(begin, behind[: len(TRAILERS) + 14], len(TRAILERS + LARGE), Unseen.BUDGET),
        Piece(begin + len(TRAILERS + LARGE), TRAILERS, continued=True),
    ]
    assert_balanced(server)


@pytest.mark.parametrize(("cut", "size"), [(9, 5001), (9, 5009), (5, 4), (5, 5004)])
def test_a_file_that_is_no_part_of_a_payload_loses_the_place(recorder: Recorder, do: Run, cut: int, size: int) -> None:
    """Header and frame are cut where the file begins and ends."""
    data = frame(DATA, number(5000)) + LARGE
    before, file, behind = data[:cut], data[cut : cut + size], data[cut + size :]
    found = do(frames.with_sendfile, before, file, behind)
    server = recorder.side(*reversed(found))

    begin = len(GREETING + before + file)
    pieces = [piece for piece in server.sent if piece.offset >= begin]
    assert b"".join(piece.data for piece in pieces) == behind[:65536]
    assert pieces[-1].unseen is Unseen.BUDGET
    assert_balanced(server)


def test_bytes_thrown_away_within_data_are_gone_over(recorder: Recorder, do: Run) -> None:
    data = frame(DATA, number(3000))
    behind = number(100) + TRAILERS + data + HEAD
    before = frame(DATA, bytes(2100))[:9]
    server = recorder.side(*reversed(do(frames.with_bytes_thrown_away, before, 2000, behind)))

    begin = len(OPENING + before)
    assert server.received == [
        Piece(0, OPENING + before),
        Piece(begin, b"", 2000, Unseen.TRUNC),
        Piece(begin + 2000, b"", 100, Unseen.BUDGET),
        Piece(begin + 2100, TRAILERS + data[:14], len(TRAILERS + data), Unseen.BUDGET, continued=True),
        Piece(begin + 2100 + len(TRAILERS + data), HEAD, continued=True),
    ]
    assert_balanced(server)


def test_a_server_that_answers_in_http_1_is_copied_as_such(recorder: Recorder, do: Run) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 30000\r\n\r\n" + b"b" * 30000
    found = do(frames.talk, [Step(True, [OPENING]), Step(False, [answer])])

    assert recorder.side(*reversed(found)).sent == [Piece(0, answer[:CHUNK], len(answer), Unseen.BUDGET, b"bbbbbbbb")]


@pytest.mark.parametrize("start", [PREFACE[:23] + b"x" + OPENING[24:], b"PRI /index HTTP/1.1\r\n\r\nxxxx"])
def test_what_is_no_preface_is_not_walked(recorder: Recorder, do: Run, start: bytes) -> None:
    data = start + LARGE
    found = do(frames.talk, [Step(True, [data])])

    assert recorder.side(*found).sent == [Piece(0, data[:CHUNK], len(data), Unseen.BUDGET, data[-8:])]


def test_user_space_names_where_frames_begin(recorder: Recorder, do: Run) -> None:
    """An upgrade: at one end the boundary is reached, at the other a frame is under way."""
    client_port, server_port = do(workload.hold, "frames")
    do(workload.use, "frames")
    client = recorder.side(client_port, server_port, closed=False)
    sent, received = len(workload.REQUEST), len(workload.RESPONSE)
    recorder.source.walk_frames(client.key, received + 3000, sent)
    recorder.settle()
    request, response = HEAD + LARGE + TRAILERS, number(3000) + LARGE + TRAILERS
    do(workload.use, "frames", request, response)
    do(workload.use, "frames", request, response[3000:])
    do(workload.let_go, "frames")
    client = recorder.side(client_port, server_port)

    stream = workload.REQUEST + request + request
    assert_walk(client.sent[1:], stream, sent)
    begin = received + 3000
    pieces = [piece for piece in client.received if piece.offset >= received]
    early = b"".join(piece.data for piece in pieces if piece.offset < begin)
    assert early[:3000] == response[:3000]
    told = b"".join(piece.data for piece in pieces)
    stream = workload.RESPONSE + response + response[3000:]
    assert told == response[:3000] + bytes(stream[at] for at in sorted(frames.copied(stream, begin)))
    assert_balanced(client)


def test_a_boundary_that_went_by_is_of_no_use(recorder: Recorder, do: Run) -> None:
    """That direction is copied, until a newer one is named."""
    client_port, server_port = do(workload.hold, "late")
    do(workload.use, "late")
    client = recorder.side(client_port, server_port, closed=False)
    sent, received = len(workload.REQUEST), len(workload.RESPONSE)
    recorder.source.walk_frames(client.key, received, sent - 1)
    recorder.settle()
    message = HEAD + frame(DATA, number(30_000))
    do(workload.use, "late", message, message)
    recorder.settle()
    recorder.source.walk_frames(client.key, 0, sent + len(message))
    recorder.settle()
    do(workload.use, "late", message, message)
    do(workload.let_go, "late")
    client = recorder.side(client_port, server_port)

    chunks = [Piece(sent + at, message[at : at + CHUNK], continued=at > 0) for at in range(0, len(message), CHUNK)]
    walked = Piece(sent + len(message), message[: len(HEAD) + 14], len(message), Unseen.BUDGET)
    assert client.sent == [Piece(0, workload.REQUEST), *chunks, walked]
    assert_walk(client.received[1:], workload.RESPONSE + message + message, received)
    assert_balanced(client)


def test_a_boundary_within_what_was_not_seen_is_of_no_use(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.hold, "spliced")
    do(workload.use, "spliced")
    server = recorder.side(server_port, client_port, closed=False)
    received, sent = len(workload.REQUEST), len(workload.RESPONSE)
    recorder.source.walk_frames(server.key, received, sent)
    recorder.settle()
    do(workload.splice_from, "spliced", 3000)
    message = HEAD + frame(DATA, number(30_000))
    do(workload.use, "spliced", message, message)
    recorder.settle()
    begin = received + 3000
    recorder.source.walk_frames(server.key, begin + len(message), 0)
    recorder.settle()
    do(workload.use, "spliced", message, message)
    do(workload.let_go, "spliced")
    server = recorder.side(server_port, client_port)

    assert server.received[1] == Piece(received, b"", 3000, Unseen.SENDFILE)
    walked = message[: len(HEAD) + 14]
    assert b"".join(piece.data for piece in server.received if piece.offset >= begin) == message + walked
    assert_walk(server.sent[1:], workload.RESPONSE + message + message, sent)
    assert_balanced(server)


def test_a_beginning_in_pieces_is_left_to_user_space(recorder: Recorder, do: Run) -> None:
    """Each direction for itself."""
    steps = [*in_calls(OPENING + LARGE, 10000, client=True, reads=23), Step(False, [GREETING + LARGE], 8)]
    found = do(frames.talk, steps)
    client, server = recorder.side(*found), recorder.side(*reversed(found))

    for received, stream in ((server.received, OPENING + LARGE), (client.received, GREETING + LARGE)):
        assert b"".join(piece.data for piece in received) == stream[:CHUNK]
    assert_walk(client.sent, OPENING + LARGE)
    assert_walk(server.sent, GREETING + LARGE)
    assert_balanced(client)
    assert_balanced(server)
