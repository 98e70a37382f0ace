"""Packets give each connection once, from its server's side, whatever became of the packets on their way."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.connections.address import parse_endpoints
from otelbpf.events.decode import decode
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Clock, Event, Host
from otelbpf.events.wire import Flag, TcpState, Unseen
from otelbpf.sources.pcap import PacketSource
from otelbpf.sources.reassembly import Budget
from otelbpf.sources.segments import ACK, FIN, RST, SYN, Segment, read_segment
from tests.sources.packets import (
    CLIENT,
    ETHERNET,
    SERVER,
    START_NS,
    STEP_NS,
    Packet,
    Talk,
    ethernet,
    events_of,
    ip_packet,
    pcap,
    read,
    streams,
    told,
)

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, written over and over."""
    return tmp_path_factory.mktemp("packets") / "some.pcap"


def open_source(path: Path, packets: list[Packet]) -> PacketSource:
    """A source over a file of these packets."""
    path.write_bytes(pcap(packets))
    return PacketSource(path)


def states(events: list[Event]) -> list[State]:
    """The changes of state."""
    return [event for event in events if isinstance(event, State)]


def pieces(events: list[Event]) -> list[Data]:
    """The data records."""
    return [event for event in events if isinstance(event, Data)]


# -- a whole connection ------------------------------------------------------------------------------------------------


def test_a_connection_from_handshake_to_close(path: Path) -> None:
    """The server's socket: established, a request, a response, both FINs; nothing from the client's side."""
    events = events_of(path, Talk().open().say(CLIENT, b"ask").say(SERVER, b"answer").close().packets)

    assert told(events) == ["ESTABLISHED", "0>ask", "0<answer", "CLOSE_WAIT", "LAST_ACK", "CLOSE 3/6"]
    assert events[:2] == [Host(packets=True, os_type=""), Clock(START_NS, 0)]
    last = states(events)[-1]
    assert (last.arrived, last.bytes_received, last.bytes_acked, last.error) == (3, 4, 7, 0)


def test_every_record_of_a_connection_names_it_alike(path: Path) -> None:
    """One key, the server's endpoints, the server's role, no process; times as captured."""
    events = events_of(path, Talk().open().say(CLIENT, b"ask").say(SERVER, b"answer").close().packets)
    about = [event for event in events if isinstance(event, Data | State)]

    assert {(event.key, event.pid, event.tid, event.flags & ~Flag.SENT) for event in about} == {
        (about[0].key, 0, 0, Flag.SERVER)
    }
    ends = parse_endpoints(about[0].endpoints)
    assert (ends.local_address, ends.local_port) == ("10.0.0.1", 80)
    assert (ends.remote_address, ends.remote_port) == ("10.0.0.2", 40000)
    assert {event.endpoints for event in about} == {about[0].endpoints}
    assert [event.time_ns - START_NS for event in about] == [n * STEP_NS for n in (2, 3, 5, 7, 8, 8)]


def test_the_server_ends_first(path: Path) -> None:
    """FIN_WAIT1, then the client's FIN ends it."""
    events = events_of(path, Talk().open().say(SERVER, b"bye").end(SERVER).end(CLIENT).packets)

    assert told(events) == ["ESTABLISHED", "0<bye", "FIN_WAIT1", "TIME_WAIT", "CLOSE 0/3"]


@pytest.mark.parametrize(("side", "error"), [(CLIENT, " error 104"), (SERVER, "")])
def test_a_reset(path: Path, side: int, error: str) -> None:
    """ECONNRESET where the client broke it; the server knows its own resets."""
    events = events_of(path, Talk().open().say(CLIENT, b"ask").reset(side).acknowledge(CLIENT).packets)

    assert told(events) == ["ESTABLISHED", "0>ask", f"CLOSE{error} 3/0"]


def test_a_stale_reset_is_none(path: Path) -> None:
    """A reset before what was acknowledged would be ignored by its receiver too."""
    talk = Talk().open().say(CLIENT, b"ask").put(CLIENT, RST, back=2, acknowledge=False)
    talk.sequence[CLIENT] = 1004

    assert told(events_of(path, talk.say(CLIENT, b"more").packets)) == [
        "ESTABLISHED",
        "0>ask",
        "3>more",
        "still open 7/0",
    ]


def test_a_refused_connection_is_told_by_the_client(path: Path) -> None:
    """No server socket exists. The time of the SYN is kept; a repeated SYN is counted."""
    talk = Talk()
    talk.put(CLIENT, SYN, acknowledge=False)
    talk.sequence[CLIENT] -= 1
    events = events_of(path, talk.put(CLIENT, SYN, acknowledge=False).reset(SERVER).packets)

    assert told(events) == ["SYN_SENT", "CLOSE error 111 0/0"]
    first, last = states(events)
    assert (first.old_state, last.old_state) == (TcpState.CLOSE, TcpState.SYN_SENT)
    assert (first.time_ns, last.time_ns) == (START_NS, START_NS + 2 * STEP_NS)
    assert (last.flags, last.retransmits, last.error) == (Flag.CLIENT, 1, 111)
    assert parse_endpoints(last.endpoints).remote_port == 80


@pytest.mark.parametrize(
    "talk",
    [
        Talk().put(CLIENT, SYN, acknowledge=False),
        Talk().put(CLIENT, SYN, acknowledge=False).put(SERVER, SYN | ACK),
        Talk().put(CLIENT, SYN, acknowledge=False).put(SERVER, SYN | ACK).put(CLIENT, RST, acknowledge=False),
        Talk().put(CLIENT, RST, acknowledge=False),
        Talk().acknowledge(CLIENT).acknowledge(SERVER),
        Talk().end(CLIENT).end(SERVER).acknowledge(CLIENT),
    ],
    ids=["SYN", "no ACK", "scan", "late RST", "keepalive", "late FINs"],
)
def test_what_never_was_a_conversation_is_not_told(path: Path, talk: Talk) -> None:
    """Half a handshake, a port scan, the last breath of a connection before the file."""
    assert told(events_of(path, talk.packets)) == []


def test_a_connection_still_open_says_so(path: Path) -> None:
    """At the end of the file its account is closed by a state that does not change."""
    events = events_of(path, Talk().open().say(CLIENT, b"ask").packets)

    assert told(events) == ["ESTABLISHED", "0>ask", "still open 3/0"]
    assert states(events)[-1].time_ns == START_NS + 4 * STEP_NS


def test_fast_open(path: Path) -> None:
    """Payload on the SYN is the stream's beginning (RFC 7413)."""
    talk = Talk()
    talk.put(CLIENT, SYN, b"ask", acknowledge=False).put(SERVER, SYN | ACK).acknowledge(CLIENT).say(SERVER, b"answer")

    assert told(events_of(path, talk.packets)) == ["0>ask", "ESTABLISHED", "0<answer", "still open 3/6"]


def test_sequence_numbers_wrap(path: Path) -> None:
    """Offsets go on where 32 bits do not, in both directions."""
    talk = Talk(first=((1 << 32) - 3, (1 << 32) - 1)).open()
    events = events_of(path, talk.say(CLIENT, b"abcdef").say(SERVER, b"123").say(CLIENT, b"gh").close().packets)

    assert streams(events) == {pieces(events)[0].key: (b"abcdefgh", b"123")}
    assert told(events)[-1] == "CLOSE 8/3"


def test_more_than_four_gigabytes(path: Path) -> None:
    """The offset is of 64 bits: the capture lacks most of a large download, and every byte of it is accounted for."""
    talk = Talk().open().say(SERVER, b"begin")
    for _ in range(12):
        talk.sequence[SERVER] += 1 << 29
        talk.say(SERVER, b"more")
    events = events_of(path, talk.packets)

    assert told(events)[-1] == f"still open 0/{5 + 12 * (1024**3 // 2 + 4)}"
    assert sum(event.length for event in pieces(events)) == 5 + 12 * (1024**3 // 2 + 4)


def test_ipv6(path: Path) -> None:
    """The same over IPv6."""
    talk = Talk(client=("2001:db8::2", 40000), server=("2001:db8::1", 80))
    events = events_of(path, talk.open().say(CLIENT, b"ask").close().packets)

    assert told(events) == ["ESTABLISHED", "0>ask", "CLOSE_WAIT", "LAST_ACK", "CLOSE 3/0"]
    assert parse_endpoints(pieces(events)[0].endpoints).local_address == "2001:db8::1"


# -- order, duplicates, losses -----------------------------------------------------------------------------------------

lines = st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.binary(min_size=1, max_size=20)), max_size=12)


@given(lines, st.data())
def test_order_and_duplicates_leave_no_trace(path: Path, said: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """Behind the handshake: any order of the packets, some of them twice, gives the same streams and the same end."""
    talk = Talk(first=((1 << 32) - 20, 7)).open()
    for side, line in said:
        talk.say(side, line, acknowledge=data.draw(st.booleans()))
    talk.close()
    shuffled = data.draw(st.permutations(talk.packets[3:]))
    twice = data.draw(st.lists(st.sampled_from(talk.packets), max_size=5))
    for packet in twice:
        shuffled.insert(data.draw(st.integers(0, len(shuffled))), packet)

    events = events_of(path, talk.packets[:3] + shuffled)

    received, sent = (b"".join(line for by, line in said if by == side) for side in (CLIENT, SERVER))
    assert list(streams(events).values()) == ([(received, sent)] if said else [])
    assert told(events)[-1] == f"CLOSE {len(received)}/{len(sent)}"


@given(lines, st.data())
def test_an_answer_never_precedes_its_question(path: Path, said: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """However the packets are shuffled, records come in the order in which the two sides took turns."""
    turns = [(side, b"".join(line for _, line in group)) for side, group in itertools.groupby(said, lambda s: s[0])]
    talk = Talk().open()
    for side, line in said:
        talk.say(side, line)

    events = events_of(path, talk.packets[:3] + data.draw(st.permutations(talk.packets[3:])))

    merged = itertools.groupby(pieces(events), lambda event: SERVER if event.flags & Flag.SENT else CLIENT)
    assert [(side, b"".join(event.data for event in group)) for side, group in merged] == turns


@given(lines, st.data())
def test_overlaps_leave_no_trace(path: Path, said: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """A retransmission may begin anywhere before and carry new bytes too (RFC 9293 section 3.10.7.4)."""
    talk = Talk().open()
    streams_so_far = [b"", b""]
    for side, line in said:
        back = data.draw(st.integers(0, min(len(streams_so_far[side]), 30)))
        again = streams_so_far[side][len(streams_so_far[side]) - back :]
        talk.put(side, ACK, again + line, back=back)
        streams_so_far[side] += line

    events = events_of(path, talk.packets)

    assert list(streams(events).values()) == ([tuple(streams_so_far)] if said else [])


@given(lines.filter(bool), st.data())
def test_a_lost_packet_is_a_gap_of_its_size(path: Path, said: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """Bytes that the file lacks but were acknowledged have their place; all others are there."""
    lost = data.draw(st.integers(0, len(said) - 1))
    talk = Talk().open()
    expected = [b"", b""]
    for number, (side, line) in enumerate(said):
        talk.say(side, line)
        if number == lost:
            del talk.packets[-2]
        expected[side] += bytes(len(line)) if number == lost else line
    talk.close()

    events = events_of(path, talk.packets)

    assert list(streams(events).values()) == [tuple(expected)]
    assert {event.flags >> 8 for event in pieces(events)} == {Unseen.NONE}
    assert told(events)[-1] == f"CLOSE {len(expected[0])}/{len(expected[1])}"


def test_a_hole_is_given_up_while_the_connection_goes_on(path: Path) -> None:
    """A second after the missing bytes were acknowledged they are no longer waited for: the rest is told before the
    file ends, in the order of questions and answers."""
    talk = Talk().open().say(CLIENT, b"abc")
    del talk.packets[-2]
    talk.say(SERVER, b"123")
    before = len(talk.packets)
    talk.now_ns += 1_100_000_000
    talk.acknowledge(SERVER)
    records = [len(told(events_of(path, talk.packets[:count]))) for count in (before, before + 1)]
    events = events_of(path, talk.say(CLIENT, b"def").packets)

    assert told(events) == ["ESTABLISHED", "0>[3]", "0<123", "3>def", "still open 6/3"]
    assert records == [4, 4]


def test_bytes_that_nobody_acknowledged_are_waited_for(path: Path) -> None:
    """They will be sent again, be it after a minute: nothing is given up, the later bytes wait."""
    talk = Talk().open().put(CLIENT, ACK, b"abc")
    lost = talk.packets.pop()
    talk.put(CLIENT, ACK, b"def")
    talk.now_ns += 60_000_000_000
    for _ in range(100):
        talk.put(SERVER, ACK, acknowledge=False)
    talk.packets.append(Packet(talk.now_ns, lost.data))

    events = events_of(path, talk.packets)

    assert told(events) == ["ESTABLISHED", "0>abc", "3>def", "still open 6/0"]
    # What came early could not be read before the hole was filled.
    assert [event.time_ns for event in pieces(events)] == [talk.now_ns, talk.now_ns]


def test_only_one_direction_was_captured(path: Path) -> None:
    """Everything of it is told, and the other direction is known by its size."""
    talk = Talk().open()
    for number in range(100):
        talk.say(CLIENT, b"ask%02d" % number).say(SERVER, b"answer")
    one_way = [packet for packet in talk.packets if packet.data[12:16] == bytes([10, 0, 0, 2])]
    events = events_of(path, one_way)

    (both,) = streams(events).values()
    assert both[0] == b"".join(b"ask%02d" % number for number in range(100))
    assert told(events)[-1] == "still open 500/600"


@pytest.mark.parametrize("last_words", [b"", b"done"])
def test_one_direction_of_more_than_four_gigabytes_was_not_captured(path: Path, last_words: bytes) -> None:
    """Only its acknowledgements tell of it, and no record is long enough for all of it."""
    talk = Talk().open()
    for _ in range(12):
        talk.sequence[CLIENT] += 1 << 29
        talk.acknowledge(SERVER)
    if last_words:
        talk.say(CLIENT, last_words)
    events = events_of(path, talk.packets)

    holes = [event for event in pieces(events) if not event.data]
    assert [(event.offset, event.length) for event in holes] == [(0, 1 << 31), (1 << 31, 1 << 31), (1 << 32, 1 << 31)]
    assert told(events)[-1] == f"still open {(12 << 29) + len(last_words)}/0"


def test_what_acknowledges_bytes_that_cannot_be_is_ignored(path: Path) -> None:
    """A segment of another time, or a forged one, moves nothing."""
    talk = Talk().open().say(CLIENT, b"ask")
    talk.sequence[CLIENT] += 1 << 31
    talk.put(SERVER, ACK, b"forged")
    talk.sequence[CLIENT] -= 1 << 31
    talk.sequence[SERVER] -= 6

    assert told(events_of(path, talk.say(SERVER, b"answer").packets)) == [
        "ESTABLISHED",
        "0>ask",
        "0<answer",
        "still open 3/6",
    ]


# -- joined midway -----------------------------------------------------------------------------------------------------


def midway(*, server_port: int = 80, client_port: int = 40000) -> Talk:
    """A connection whose handshake is not in the file."""
    return Talk(server=("10.0.0.1", server_port), client=("10.0.0.2", client_port))


def test_a_request_tells_the_server(path: Path) -> None:
    """Offsets begin with the file; both flags say so."""
    events = events_of(path, midway(server_port=50000).say(CLIENT, REQUEST).say(SERVER, RESPONSE).packets)

    assert told(events) == [
        f"joined 0>{REQUEST.decode()}",
        f"joined 0<{RESPONSE.decode()}",
        f"joined still open {len(REQUEST)}/{len(RESPONSE)}",
    ]
    assert {event.flags & Flag.SERVER for event in pieces(events)} == {Flag.SERVER}


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0\r\n",
        b"M-SEARCH * HTTP/1.1\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /" + b"x" * 1400,
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n",
    ],
)
def test_request_lines(path: Path, line: bytes) -> None:
    """Whatever begins like a request comes from the client, though its port is the lower one."""
    events = events_of(path, midway(server_port=50000, client_port=1).say(CLIENT, b"?").say(CLIENT, line).packets)

    assert [event.flags for event in pieces(events)] == [Flag.JOINED | Flag.SERVER] * 2
    assert parse_endpoints(pieces(events)[0].endpoints).local_port == 50000


def test_what_was_said_before_the_role_was_known_is_told(path: Path) -> None:
    """The end of a body comes first; then a response tells who serves."""
    talk = midway(server_port=50000).say(CLIENT, b"rest of a body").say(SERVER, b"HTTP/1.1 200 OK\r\n\r\n")

    assert told(events_of(path, talk.packets))[:2] == ["joined 0>rest of a body", "joined 0<HTTP/1.1 200 OK\r\n\r\n"]


def test_a_server_is_known_from_its_other_connections(path: Path) -> None:
    """Who was connected to once serves the next connection too, though its port is the higher one."""
    known = Talk(server=("10.0.0.1", 50000)).open()
    talk = Talk(server=("10.0.0.1", 50000), client=("10.0.0.3", 1)).say(CLIENT, b"\0\1\2")
    events = events_of(path, known.packets + talk.packets)

    assert told(events)[1] == "joined 0>\0\1\2"
    assert pieces(events)[0].flags == Flag.JOINED | Flag.SERVER


def test_the_lower_port_is_the_last_resort_and_claims_nothing(path: Path) -> None:
    """Nothing that was said tells the server: the records do not say that it is one."""
    events = events_of(path, midway().say(SERVER, b"\0\1\2").packets)

    assert told(events) == ["joined 0<\0\1\2", "joined still open 0/3"]
    assert pieces(events)[0].flags == Flag.JOINED | Flag.SENT
    assert parse_endpoints(pieces(events)[0].endpoints).local_port == 80


def test_a_decision_is_not_put_off_for_ever(path: Path) -> None:
    """Sixteen pieces without a beginning are enough: what follows is not held back, be it a request."""
    talk = midway(server_port=50000, client_port=1)
    for _ in range(16):
        talk.say(CLIENT, b"\0")
    events = events_of(path, talk.say(CLIENT, REQUEST).packets)

    assert len(pieces(events)) == 17
    assert {event.flags for event in pieces(events)} == {Flag.JOINED | Flag.SENT}


def test_a_first_acknowledgement_tells_where_the_other_side_stands(path: Path) -> None:
    """The response's beginning is missing: it is a gap, not silence."""
    talk = midway().say(CLIENT, REQUEST).say(SERVER, b"HTTP/1.1 200 OK\r\n", acknowledge=False)
    del talk.packets[-1]
    events = events_of(path, talk.say(SERVER, b"Server: x\r\n").packets)

    assert told(events)[1:] == ["joined 0<[17]", "joined 17<Server: x\r\n", f"joined still open {len(REQUEST)}/28"]


def test_a_syn_that_comes_after_its_data(path: Path) -> None:
    """It is not another connection."""
    talk = Talk().put(CLIENT, SYN, acknowledge=False).put(SERVER, SYN | ACK).say(CLIENT, REQUEST)
    first, second, *rest = talk.packets

    assert len(streams(events_of(path, [second, first, *rest]))) == 1
    assert len(streams(events_of(path, [rest[0], first, second, *rest[1:]]))) == 1
    assert told(events_of(path, [second, first, *rest]))[0] == "ESTABLISHED"


# -- one connection after the other ------------------------------------------------------------------------------------


def test_the_same_ports_again(path: Path) -> None:
    """A closed connection's ports are used again: another key, offsets from the beginning."""
    one = Talk().open().say(CLIENT, b"one").close()
    two = Talk(first=(900_000, 70_000), start_ns=one.now_ns).open().say(CLIENT, b"two").close()
    events = events_of(path, one.packets + two.packets)

    assert list(streams(events).values()) == [(b"one", b""), (b"two", b"")]
    assert told(events) == [
        *("ESTABLISHED", "0>one", "CLOSE_WAIT", "LAST_ACK", "CLOSE 3/0"),
        *("ESTABLISHED", "0>two", "CLOSE_WAIT", "LAST_ACK", "CLOSE 3/0"),
    ]


def test_the_same_ports_again_while_the_first_is_open(path: Path) -> None:
    """A new SYN means that the old connection is gone, however it went."""
    one = Talk().open().say(CLIENT, b"one")
    two = Talk(first=(900_000, 70_000), start_ns=one.now_ns).open().say(CLIENT, b"two")
    events = events_of(path, one.packets + two.packets)

    assert told(events) == ["ESTABLISHED", "0>one", "CLOSE 3/0", "ESTABLISHED", "0>two", "still open 3/0"]


def test_late_packets_of_a_closed_connection_open_nothing(path: Path) -> None:
    """A retransmitted FIN, data and all, is the old connection's."""
    talk = Talk().open().say(CLIENT, b"one").close()
    events = events_of(path, talk.packets + talk.packets[3:])

    assert told(events) == ["ESTABLISHED", "0>one", "CLOSE_WAIT", "LAST_ACK", "CLOSE 3/0"]


def test_a_closed_connections_ports_speak_again_without_a_handshake(path: Path) -> None:
    """The SYN of the next connection was missed, but its sequence numbers are far off: it is joined."""
    one = Talk().open().say(CLIENT, b"one").close()
    two = Talk(first=(900_000_000, 70_000_000), start_ns=one.now_ns).say(CLIENT, REQUEST)

    assert told(events_of(path, one.packets + two.packets))[-2:] == [
        f"joined 0>{REQUEST.decode()}",
        f"joined still open {len(REQUEST)}/0",
    ]


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_too_many_connections(path: Path) -> None:
    """The quietest is let go, its account closed; when it speaks again it is joined."""
    talks = [Talk(client=("10.0.0.2", 40000 + number), start_ns=START_NS + number).open() for number in range(3)]
    for talk in talks:
        talk.say(CLIENT, REQUEST)
    events = events_of(
        path, [p for talk in talks for p in talk.packets] + talks[0].say(CLIENT, b"x").packets[-2:], max_connections=2
    )

    assert told(events) == [
        *["ESTABLISHED", f"0>{REQUEST.decode()}"] * 2,
        f"still open {len(REQUEST)}/0",
        "ESTABLISHED",
        f"0>{REQUEST.decode()}",
        f"still open {len(REQUEST)}/0",
        "joined 0>x",
        f"still open {len(REQUEST)}/0",
        "joined still open 1/0",
    ]


def test_closed_connections_are_forgotten(path: Path) -> None:
    """A minute after its end, a connection takes no room."""
    talks = [
        Talk(client=("10.0.0.2", 40000 + number), start_ns=START_NS + number * 61_000_000_000).open().close()
        for number in range(5)
    ]
    source = open_source(path, [packet for talk in talks for packet in talk.packets])
    sizes: list[int] = []
    for segment in map(read_segment, source._file.frames()):
        assert isinstance(segment, Segment)
        source._now_ns = segment.time_ns
        source._take(segment)
        sizes.append(len(source._table))
    source.close()

    assert (set(sizes), source.connections, source.evicted) == ({1}, 5, 0)


class Watched(Budget):
    """Remembers the most that was held back."""

    most = 0

    def __setattr__(self, name: str, value: int) -> None:
        super().__setattr__(name, value)
        if name == "used":
            self.most = max(self.most, value)


def test_what_is_held_back_is_bounded_over_all_connections(path: Path) -> None:
    """Each connection lacks its first byte for ever. Beyond the bound the hole is given up, nothing else is lost."""
    packets: list[Packet] = []
    for number in range(20):
        talk = Talk(client=("10.0.0.2", 40000 + number)).open()
        talk.sequence[CLIENT] += 1
        packets += talk.say(CLIENT, bytes([65 + number]) * 1000, acknowledge=False).packets
    source = open_source(path, packets)
    source._budget = budget = Watched(5000)
    events = [decode(record) for batch in source.batches() for record in batch]
    source.close()

    assert sorted(received for received, _ in streams(events).values()) == [
        b"\0" + bytes([65 + number]) * 1000 for number in range(20)
    ]
    assert (budget.most, budget.used) == (4 * 1256, 0)


def test_a_fin_among_bytes_that_were_seen(path: Path) -> None:
    """It came early, waited, and is overtaken by what shows that it cannot be true."""
    talk = Talk().open()
    talk.sequence[CLIENT] += 3
    talk.put(CLIENT, FIN | ACK)
    talk.sequence[CLIENT] = 1001

    assert told(events_of(path, talk.say(CLIENT, b"abcdef").packets)) == ["ESTABLISHED", "0>abcdef", "still open 6/0"]


def test_bytes_behind_a_fin_that_were_acknowledged(path: Path) -> None:
    """A lie: a FIN is the end. The connection ends all the same, and so does the reading of it."""
    talk = Talk().open().say(SERVER, b"bye").end(SERVER)
    talk.sequence[SERVER] += 1

    assert told(events_of(path, talk.end(CLIENT).packets)) == [
        "ESTABLISHED",
        "0<bye",
        "FIN_WAIT1",
        "TIME_WAIT",
        "CLOSE 0/3",
    ]


def test_a_fin_that_the_file_lacks(path: Path) -> None:
    """The client's FIN acknowledges one more than was seen: not a byte, but the server's FIN."""
    talk = Talk().open().say(SERVER, b"bye").end(SERVER)
    del talk.packets[-1]

    assert told(events_of(path, talk.end(CLIENT).packets)) == [
        "ESTABLISHED",
        "0<bye",
        "FIN_WAIT1",
        "TIME_WAIT",
        "CLOSE 0/3",
    ]


# -- what the file is --------------------------------------------------------------------------------------------------


def test_a_snapshot_length_is_a_budget(path: Path) -> None:
    """The true length is in the IP header; what was cut off is not seen, for a reason."""
    talk = Talk().open().say(CLIENT, b"ask" + bytes(97)).say(SERVER, b"answer")
    events = events_of(path, pcap(talk.packets, snapshot_bytes=43))

    assert told(events) == ["ESTABLISHED", "0>ask[97]", "0<ans[3]", "still open 100/6"]
    assert [event.flags >> 8 for event in pieces(events)] == [Unseen.BUDGET, Unseen.BUDGET]


def test_a_damaged_file_delivers_what_was_read(path: Path) -> None:
    """Then the error, with the offset of the packet that is cut."""
    talk = Talk().open().say(CLIENT, b"ask").say(SERVER, b"answer")
    whole = pcap(talk.packets)
    events, error = read(path, whole[:-1])

    assert told(events) == ["ESTABLISHED", "0>ask", "0<answer", "still open 3/6"]
    assert error is not None
    assert error.offset == len(whole) - 40 - 16
    assert str(error) == (f"{path} ends too early at byte {error.offset}; everything before it was read; capture again")


def test_a_file_without_packets(path: Path) -> None:
    """One line, and what helps."""
    events, error = read(path, [])

    assert len(events) == 1
    assert str(error) == f"{path} holds no packets; capture some with: tcpdump -w FILE tcp"


def test_a_file_without_tcp(path: Path) -> None:
    """What it holds instead is said."""
    udp = Packet(START_NS, ip_packet("10.0.0.1", "10.0.0.2", bytes(20), protocol=17))
    _, error = read(path, [udp, udp, Packet(START_NS, b"\0")])

    assert str(error) == (f"{path} holds no TCP: 2 frames not TCP, 1 frames damaged; capture with: tcpdump -w FILE tcp")


def test_a_link_type_that_is_not_known(path: Path) -> None:
    """Wireless frames, for one, are not read; the number is what a search engine needs."""
    _, error = read(path, pcap(Talk().open().packets, link_type=105))

    assert str(error) == f"{path} holds no TCP: 3 frames of link type 105; capture with: tcpdump -w FILE tcp"


def test_frames_that_are_no_tcp_are_counted(path: Path) -> None:
    """They do no harm to the others."""
    talk = Talk().open()
    fragment = bytearray(talk.say(CLIENT, b"lost").packets[-2].data)
    fragment[6:8] = b"\x20\x00"
    talk.packets[-2] = Packet(START_NS, bytes(fragment))
    source = open_source(path, [*talk.packets, Packet(START_NS, b"\x45")])
    for _ in source.batches():
        pass
    source.close()

    assert source.skipped == {"IP fragment": 1, "damaged": 1}
    assert source.frames == 6
    assert told(events_of(path, [*talk.packets, Packet(START_NS, b"\x45")])) == [
        "ESTABLISHED",
        "0>[4]",
        "still open 4/0",
    ]


def test_ethernet(path: Path) -> None:
    """The same connection in Ethernet frames, padded to sixty bytes as the wire demands."""
    talk = Talk().open().say(CLIENT, b"ask").close()
    frames = [Packet(packet.time_ns, ethernet(packet.data).ljust(60, b"\0")) for packet in talk.packets]

    assert told(events_of(path, pcap(frames, link_type=ETHERNET))) == told(events_of(path, talk.packets))


def test_the_clock_strikes_with_every_batch(path: Path) -> None:
    """The newest time so far, so that what waits behind can go on."""
    talk = Talk().open()
    for _ in range(300):
        talk.say(CLIENT, b"x")
    clocks = [event for event in events_of(path, talk.packets) if isinstance(event, Clock)]

    assert [clock.time_ns - START_NS for clock in clocks] == [0, 255 * STEP_NS, 511 * STEP_NS]
    assert {clock.offset_ns for clock in clocks} == {0}


def test_stop(path: Path) -> None:
    """What was read is told, nothing more; stopping is no error."""
    talk = Talk().open()
    for _ in range(300):
        talk.say(CLIENT, b"x")
    source = open_source(path, talk.packets)
    batches = source.batches()
    next(batches)
    source.stop()

    assert len(list(batches)) == 1
    assert source.frames == 256
    source.close()


def test_fin_with_the_last_bytes(path: Path) -> None:
    """Bytes first, then the end."""
    talk = Talk().open().put(CLIENT, FIN | ACK, b"ask").put(SERVER, FIN | ACK, b"answer")

    assert told(events_of(path, talk.packets)) == [
        "ESTABLISHED",
        "0>ask",
        "CLOSE_WAIT",
        "0<answer",
        "LAST_ACK",
        "CLOSE 3/6",
    ]
