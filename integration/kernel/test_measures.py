"""The numbers the probes tell of connections, queues and waits are those that others measure."""

from __future__ import annotations

import os

from integration.kernel import measured, workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Recorder
from otelbpf.connections.address import parse_endpoints
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Answer, Event, Listener
from otelbpf.events.wire import Flag, TcpState

UNREACHABLE, TIMED_OUT, RESET = 113, 110, 104
SLEPT = 0.25
MICROSECOND = 1e-6


def connect_seconds(side_events: list[Data | State]) -> float:
    """From the SYN until the connection stood, or came to nothing."""
    states = [event for event in side_events if isinstance(event, State)]
    assert states[0].new_state == TcpState.SYN_SENT
    # A connection's life, and the first record, begin with its SYN.
    assert int.from_bytes(states[0].key[8:], "little") == states[0].time_ns
    return (states[1].time_ns - states[0].time_ns) / 1e9


def waits(events: list[Data | State]) -> list[int]:
    return [event.waited for event in events if isinstance(event, Data) and not event.flags & Flag.SENT]


def test_a_connection_that_stood_at_the_second_syn(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), took = do(measured.slow_connect)

    client = recorder.side(client_port, server_port)
    assert 1.0 <= connect_seconds(client.events) <= took
    assert client.last.retransmits == 1
    assert recorder.side(server_port, client_port).last.retransmits == 0


def test_one_that_was_never_answered(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), syns, took = do(measured.unanswered)

    side = recorder.side(client_port, server_port)
    assert side.states == [TcpState.SYN_SENT, TcpState.CLOSE]
    assert syns >= 2
    assert (side.last.error, side.last.retransmits) == (TIMED_OUT, syns - 1)
    assert 1.0 < connect_seconds(side.events) <= took


def test_one_that_cannot_be_reached(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(measured.unreachable)

    side = recorder.side(client_port, server_port)
    assert side.states == [TcpState.SYN_SENT, TcpState.CLOSE]
    assert side.last.error == UNREACHABLE


def test_segments_sent_again_and_the_round_trip_time(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), again, rtt_us = do(measured.sent_again, 0.7)

    client = recorder.side(client_port, server_port).last
    assert again >= 2
    assert (client.retransmits, client.smoothed_rtt_us) == (again, rtt_us)
    assert recorder.side(server_port, client_port).last.error == RESET


def test_how_long_sending_stood_still(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), window_us, buffer_us = do(measured.stalled, 0.5)

    client = recorder.side(client_port, server_port).last
    assert window_us + buffer_us >= 400_000
    assert (client.window_limited_ms, client.buffer_limited_ms) == (window_us // 1000, buffer_us // 1000)


def test_a_request_waits_as_long_as_the_application_sleeps(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), brackets = do(measured.late_reads, SLEPT)

    told = waits(recorder.side(server_port, client_port).events)
    # One read; two of what came together; two of which the second holds what came later.
    assert [value > 0 for value in told] == [True, True, True, True, False]
    for value, (least, most) in zip((told[0], told[1], told[3]), brackets, strict=True):
        assert SLEPT <= least - MICROSECOND <= (value - 1) * MICROSECOND <= most
    assert told[2] >= told[1]
    assert told[4] <= -told[3]
    assert waits(recorder.side(client_port, server_port).events) == [0, 0, 0]


def test_who_waits_in_its_call_hardly_lets_anybody_wait(recorder: Recorder, do: Run) -> None:
    (client_port, server_port), (_, most) = do(measured.waiting_read)

    (told,) = waits(recorder.side(server_port, client_port).events)
    assert 0 <= (told - 1) * MICROSECOND <= most


def test_nothing_is_told_of_a_wait_that_began_before_the_probes(tier: str, do: Run) -> None:
    client_port, server_port = do(workload.hold, "waits")
    recorder = Recorder(tier=tier)
    do(workload.use, "waits")
    do(workload.use, "waits")
    do(workload.let_go, "waits")
    told = waits(recorder.side(server_port, client_port).events)
    recorder.close()

    assert told[0] == 0
    assert told[1] > 0


def test_a_queue_that_is_full(recorder: Recorder, do: Run) -> None:
    port, waiting = do(measured.fill_queue, 2, 3)

    def newest(events: list[Event]) -> Listener | None:
        mine = [e for e in events if isinstance(e, Listener) and parse_endpoints(e.endpoints).local_port == port]
        return mine[-1] if mine else None

    def full(events: list[Event]) -> bool:
        told = newest(events)
        return told is not None and (told.depth, told.deepest, told.limit, told.dropped) == (waiting, waiting, 2, 3)

    recorder.until(f"a full queue at port {port}", full)
    told = newest(recorder.events)
    assert told is not None
    assert told.pid in {event.pid for event in recorder.processes()}
    do(measured.leave_queue)
    recorder.until(f"an empty queue at port {port}", lambda events: (last := newest(events)) and last.depth == 0)


def test_who_only_closes_is_known(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(measured.only_closed)

    client, server = recorder.side(client_port, server_port).last, recorder.side(server_port, client_port).last
    assert server.pid == client.pid != 0


def test_answers_of_name_servers(recorder: Recorder, do: Run) -> None:
    """What a resolver was told, to the byte; but for what is longer than a record."""
    marked = b"an answer of this very test: " + os.urandom(16)
    read = do(measured.asked_names, marked)

    def told(events: list[Event]) -> list[bytes]:
        answers = [event.message for event in events if isinstance(event, Answer)]
        return [message for message in answers if message.startswith(marked) or marked in message[:100]]

    assert [len(message) for message in read] == [len(marked), 1023, 1024] * 2
    expected = [message for message in read if len(message) < 1024]
    assert recorder.until("the answers", lambda events: len(told(events)) >= 4 and told(events)) == expected
