"""The record made of a table entry when the kernel's own will not come."""

from __future__ import annotations

import struct

import pytest

from otelbpf.events.decode import decode
from otelbpf.events.encode import encode_endpoints
from otelbpf.events.traffic import State
from otelbpf.events.wire import Flag, TcpState
from otelbpf.sources.sockets import ENTRY, ENTRY_FIELDS, Life, SocketEntry, last_word

ENDS = encode_endpoints("10.0.0.1", 80, "10.0.0.2", 40000, network_namespace=7)
SOCKET = 0xFFFF888012345678


def entry(**values: int) -> SocketEntry:
    """As the map holds it; what is not given is 0."""
    known = {
        "epoch_ns": 5,
        "endpoints": ENDS,
        "pid": 11,
        "tid": 12,
        "flags": Flag.SERVER,
        "told": 1,
        **values,
    }
    return SocketEntry.parse(
        ENTRY.pack(*(known.get(name, b"" if code.endswith("s") else 0) for name, code in ENTRY_FIELDS))
    )


def word(of: SocketEntry) -> State:
    event = decode(last_word(SOCKET, of, time_ns=99))
    assert isinstance(event, State)
    return event


def test_a_socket_still_open_stands_where_its_last_bytes_were_told() -> None:
    event = word(entry(life=Life.OPEN, state=TcpState.ESTABLISHED, end_sent=10, end_received=20, lost_sent=3, sent=1))

    assert (event.key, event.endpoints) == (struct.pack("<QQ", SOCKET, 5), ENDS)
    assert (event.old_state, event.new_state) == (TcpState.ESTABLISHED, TcpState.ESTABLISHED)
    assert (event.sent, event.received, event.arrived, event.lost_sent) == (10, 20, 20, 3)
    assert (event.time_ns, event.pid, event.tid, event.flags) == (99, 11, 12, Flag.SERVER)


def test_an_end_that_found_no_room_is_told_with_its_own_numbers_and_time() -> None:
    event = word(
        entry(
            life=Life.CLOSED,
            state=TcpState.CLOSE,
            old_state=TcpState.LAST_ACK,
            closed_ns=50,
            sent=10,
            received=20,
            arrived=25,
            end_sent=10,
            end_received=20,
            bytes_acked=11,
            error=104,
            base_sent=1000,
        )
    )

    assert (event.old_state, event.new_state, event.time_ns) == (TcpState.LAST_ACK, TcpState.CLOSE, 50)
    assert (event.sent, event.received, event.arrived) == (10, 20, 25)
    assert (event.bytes_acked, event.error, event.first_sent) == (11, 104, 1000)


def test_what_was_read_after_the_end_counts() -> None:
    event = word(entry(life=Life.ENDING, old_state=TcpState.FIN_WAIT2, received=20, arrived=30, end_received=30))

    assert (event.received, event.arrived) == (30, 30)


@pytest.mark.parametrize(
    ("life", "told", "due"),
    [
        (Life.OPEN, 1, True),
        (Life.ENDING, 1, True),
        (Life.CLOSED, 1, False),
        (Life.OPEN, 0, False),
    ],
)
def test_only_what_was_begun_and_not_ended_is_due(life: Life, told: int, due: bool) -> None:
    assert entry(life=life, told=told).to_be_told is due
