"""What is copied and what is only counted: heads whole, bodies not; the rules of turns, budgets and tails."""

from __future__ import annotations

from integration.kernel import workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Piece, Recorder
from otelbpf.events.wire import Loss, Unseen

LIMIT = 8192
CHUNK = 8192
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n"


def test_a_message_within_the_limit_is_copied_whole(recorder: Recorder, do: Run) -> None:
    message = HEAD + b"b" * (LIMIT - len(HEAD))
    client_port, server_port = do(workload.send_vectors, [[message]])

    assert recorder.side(server_port, client_port).sent == [Piece(0, message)]


def test_beyond_the_limit_only_the_tail_is_copied(recorder: Recorder, do: Run) -> None:
    message = HEAD + b"b" * LIMIT + b"the last"
    client_port, server_port = do(workload.send_vectors, [[message]])

    assert recorder.side(server_port, client_port).sent == [
        Piece(0, message[:LIMIT], len(message), Unseen.BUDGET, b"the last")
    ]


def test_a_tail_is_never_longer_than_what_was_left_out(recorder: Recorder, do: Run) -> None:
    message = b"m" * LIMIT + b"end"
    client_port, server_port = do(workload.send_vectors, [[message]])

    assert recorder.side(server_port, client_port).sent == [
        Piece(0, message[:LIMIT], len(message), Unseen.BUDGET, b"end")
    ]


def test_a_tail_goes_over_segments(recorder: Recorder, do: Run) -> None:
    vector = [b"m" * LIMIT, b"body" * 100, b"\r\n", b"0\r\n", b"\r\n"]
    client_port, server_port = do(workload.send_vectors, [vector])

    assert recorder.side(server_port, client_port).sent == [
        Piece(0, b"m" * LIMIT, LIMIT + 407, Unseen.BUDGET, b"y\r\n0\r\n\r\n")
    ]


def test_the_limit_counts_over_calls_until_the_turn(recorder: Recorder, do: Run) -> None:
    first, second, third = b"1" * 5000, b"2" * 5000, b"3" * 5000
    client_port, server_port = do(workload.send_vectors, [[first], [second], [third]], False)

    assert recorder.side(server_port, client_port).sent == [
        Piece(0, first),
        Piece(5000, second[: LIMIT - 5000], 5000, Unseen.BUDGET, b"22222222"),
        Piece(10000, b"", 5000, Unseen.BUDGET, b"33333333"),
    ]


def test_a_turn_begins_anew(recorder: Recorder, do: Run) -> None:
    message = HEAD + b"b" * 30000
    client_port, server_port = do(workload.send_vectors, [[message], [message]])

    cut = Piece(0, message[:LIMIT], len(message), Unseen.BUDGET, b"bbbbbbbb")
    again = Piece(len(message), message[:LIMIT], len(message), Unseen.BUDGET, b"bbbbbbbb")
    assert recorder.side(server_port, client_port).sent == [cut, again]


def test_a_message_that_starts_a_call_is_copied_without_a_turn(recorder: Recorder, do: Run) -> None:
    body = b"b" * 30000
    client_port, server_port = do(workload.send_vectors, [[HEAD + body], [body], [HEAD, body]], False)

    length = len(HEAD) + len(body)
    copied = (HEAD + body)[:LIMIT]
    assert recorder.side(server_port, client_port).sent == [
        Piece(0, copied, length, Unseen.BUDGET, b"bbbbbbbb"),
        Piece(length, b"", len(body), Unseen.BUDGET, b"bbbbbbbb"),
        Piece(length + len(body), copied, length, Unseen.BUDGET, b"bbbbbbbb"),
    ]


def test_a_head_behind_a_body_in_one_call_has_a_record_of_its_own(recorder: Recorder, do: Run) -> None:
    body = b"b" * 30000
    client_port, server_port = do(workload.send_vectors, [[HEAD, body, HEAD, body]])

    length = len(HEAD) + len(body)
    copied = (HEAD + body)[:LIMIT]
    cut = Piece(0, copied, length, Unseen.BUDGET, b"bbbbbbbb")
    assert recorder.side(server_port, client_port).sent == [
        cut,
        Piece(length, copied, length, Unseen.BUDGET, b"bbbbbbbb", continued=True),
    ]


def test_copy_more_lifts_the_limit(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.hold, "more")
    message = b"m" * 30000
    do(workload.use, "more")
    server = recorder.side(server_port, client_port, closed=False)
    recorder.source.copy_more(server.key)
    recorder.settle()
    do(workload.use, "more", workload.REQUEST, message)
    do(workload.let_go, "more")

    begin = len(workload.RESPONSE)
    assert recorder.side(server_port, client_port).sent[1:] == [
        Piece(begin + at, message[at : at + CHUNK], continued=at > 0) for at in range(0, len(message), CHUNK)
    ]


def test_a_muted_socket_is_only_counted(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.hold, "mute")
    do(workload.use, "mute")
    server = recorder.side(server_port, client_port, closed=False)
    before = recorder.losses(Loss.MUTED)
    recorder.source.mute(server.key)
    recorder.settle()
    do(workload.use, "mute")
    do(workload.let_go, "mute")

    server = recorder.side(server_port, client_port)
    request, response = len(workload.REQUEST), len(workload.RESPONSE)
    assert server.received == [Piece(0, workload.REQUEST)]
    assert server.sent == [Piece(0, workload.RESPONSE)]
    assert (server.last.muted_received, server.last.muted_sent) == (request, response)
    assert (server.last.received, server.last.sent) == (2 * request, 2 * response)
    events, count = recorder.losses(Loss.MUTED)
    assert (events - before[0], count - before[1]) == (2, request + response)
    assert recorder.side(client_port, server_port).received == [
        Piece(0, workload.RESPONSE),
        Piece(response, workload.RESPONSE),
    ]
