"""Every call, byte for byte: what was sent and received is what the records say, at the offsets where it was."""

from __future__ import annotations

import pytest

from integration.kernel import workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Piece, Recorder
from otelbpf.events.traffic import Data, State
from otelbpf.events.wire import Flag, TcpState, Unseen

MESSAGES = [b"message %d " % number + b"m" * number * 7 for number in range(23)]


def pieces(messages: list[bytes]) -> list[Piece]:
    """A record for each message, one behind the other."""
    offsets = [sum(map(len, messages[:number])) for number in range(len(messages))]
    return [Piece(offset, message) for offset, message in zip(offsets, messages, strict=True)]


@pytest.mark.parametrize("family", workload.ADDRESSES)
@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        ("write", "read"),
        ("writev", "readv"),
        ("sendto", "recvfrom"),
        ("sendmsg", "recvmsg"),
        ("pwritev2", "preadv2"),
        ("write", "recvmmsg"),
    ],
)
def test_23_messages_are_23_records_at_each_end(
    recorder: Recorder, do: Run, sender: str, receiver: str, family: str
) -> None:
    client_port, server_port = do(workload.rounds, sender, receiver, family, MESSAGES)

    client = recorder.side(client_port, server_port)
    server = recorder.side(server_port, client_port)
    assert client.sent == server.received == pieces(MESSAGES)
    assert client.received == server.sent == []


def test_every_message_of_sendmmsg_has_its_own_bytes(recorder: Recorder, do: Run) -> None:
    batches = [[b"first", b"second", b"third"], [b"only one"], [b"a" * 100, b"b" * 200], [b"c" * 100, b"d" * 200]]
    client_port, server_port = do(workload.send_several, batches)

    assert recorder.side(client_port, server_port).sent == pieces([part for batch in batches for part in batch])


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 64, 65, 200, 1024])
def test_any_number_of_segments_is_one_record(recorder: Recorder, do: Run, count: int) -> None:
    vector = [b"%04d:" % number for number in range(count)]
    client_port, server_port = do(workload.send_vectors, [vector])

    assert recorder.side(server_port, client_port).sent == [Piece(0, b"".join(vector))]


def test_empty_segments_are_passed_over(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.send_vectors, [[b"", b"one", b"", b"", b"two", b""]])

    assert recorder.side(server_port, client_port).sent == [Piece(0, b"onetwo")]


def test_sendfile_is_counted_and_not_copied(recorder: Recorder, do: Run) -> None:
    """Until 6.4 the kernel sent it page by page, each a record."""
    client_port, server_port = do(workload.send_file, 5000)

    server = recorder.side(server_port, client_port)
    *pages, last = server.sent
    ends = [page.offset + page.length for page in pages]
    assert {page.unseen for page in pages} == {Unseen.SENDFILE}
    assert [page.offset for page in pages] == [0, *ends[:-1]]
    assert (ends[-1], last) == (5000, Piece(5000, b"end"))
    assert (server.last.sent, server.last.lost_sent) == (5003, 0)


def test_what_was_spliced_out_of_a_socket_is_told_with_the_next_bytes(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.splice_out, 3000)

    server = recorder.side(server_port, client_port)
    assert server.received == [Piece(0, b"", 3000, Unseen.SENDFILE), Piece(3000, b"plain")]


def test_what_was_spliced_into_a_socket_is_counted(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.splice_in, 3000)

    client = recorder.side(client_port, server_port)
    assert client.sent == [Piece(0, b"", 3000, Unseen.SENDFILE)]


def test_a_peek_is_no_receipt(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.peek)

    assert recorder.side(server_port, client_port).received == [Piece(0, workload.REQUEST)]


def test_bytes_thrown_away_are_counted(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.truncate)

    thrown_away = Piece(0, b"", 11, Unseen.TRUNC)
    assert recorder.side(server_port, client_port).received == [thrown_away, Piece(11, workload.REQUEST)]


def test_each_record_names_the_process_at_work(recorder: Recorder, do: Run) -> None:
    (parent, child), (client_port, server_port) = do(workload.inherited)

    sent = [event for event in recorder.side(client_port, server_port).events if isinstance(event, Data)]
    assert [(event.pid, event.tid) for event in sent] == [(parent, parent), (child, child)]
    assert {parent, child} <= {process.pid for process in recorder.processes()}


def test_a_process_is_told_again_when_it_runs_another_program(recorder: Recorder, do: Run) -> None:
    pid, connections = do(workload.in_another_program)

    assert len(connections) == 2
    for client_port, server_port in connections:
        recorder.side(client_port, server_port)
    assert [process.pid for process in recorder.processes()].count(pid) == 2


def test_the_times_of_a_connection_are_in_order(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.one_exchange)

    client, server = recorder.side(client_port, server_port), recorder.side(server_port, client_port)
    data = sorted(
        (event for side in (client, server) for event in side.events if isinstance(event, Data)),
        key=lambda event: event.time_ns,
    )
    sent = [bool(event.flags & Flag.SENT) for event in data]
    roles = [Flag.CLIENT if event.flags & Flag.CLIENT else Flag.SERVER for event in data]
    assert list(zip(roles, sent, strict=True)) == [
        (Flag.CLIENT, True),
        (Flag.SERVER, False),
        (Flag.SERVER, True),
        (Flag.CLIENT, False),
    ]


def test_kernel_tls_is_counted_and_never_misread(recorder: Recorder, do: Run) -> None:
    found = do(workload.kernel_tls)
    if found is None:
        pytest.skip("needs a kernel with CONFIG_TLS")
    client = recorder.side(*found)

    assert client.sent == [Piece(0, b"plain"), Piece(5, b"", 18 + 1 + 16 + 5, Unseen.KERNEL_TLS)]


def test_io_uring_is_seen_where_the_kernel_shows_its_buffers(recorder: Recorder, do: Run) -> None:
    """The kprobe tier has the buffer from the call itself; a system call that could be read there is none."""
    found = do(workload.send_by_ring, workload.REQUEST)
    if found is None:
        pytest.skip("needs a kernel that allows io_uring")

    unseen = Piece(0, b"", len(workload.REQUEST), Unseen.IO_URING)
    seen = Piece(0, workload.REQUEST)
    assert recorder.side(*found).sent == [seen if recorder.source.tier == "kprobe" else unseen]


def test_a_call_of_a_32_bit_program_is_counted_and_never_misread(recorder: Recorder, do: Run) -> None:
    found = do(workload.send_by_32_bit_call, workload.REQUEST)
    if found is None:
        pytest.skip("needs a kernel with CONFIG_IA32_EMULATION")

    unseen = Piece(0, b"", len(workload.REQUEST), Unseen.SYSCALL)
    seen = Piece(0, workload.REQUEST)
    assert recorder.side(*found).sent == [seen if recorder.source.tier == "kprobe" else unseen]


def test_sockets_other_than_tcp_are_left_alone(recorder: Recorder, do: Run) -> None:
    recorder.settle()
    before = len(recorder.events)
    pid = do(workload.other_sockets)
    recorder.settle()

    assert [e for e in recorder.events[before:] if isinstance(e, Data | State) and e.pid == pid] == []


def test_tcp_fast_open_loses_no_byte(recorder: Recorder, do: Run) -> None:
    found = do(workload.fast_open)
    if found is None:
        pytest.skip("needs the right to change net.ipv4.tcp_fastopen")
    client_port, server_port = found

    client, server = recorder.side(client_port, server_port), recorder.side(server_port, client_port)
    assert client.sent == server.received == [Piece(0, workload.REQUEST)]
    assert server.sent == client.received == [Piece(0, workload.RESPONSE)]
    assert client.states[:2] == [TcpState.SYN_SENT, TcpState.ESTABLISHED]
