"""The life of a socket: how it begins and ends, what the kernel says of it, and connections older than the probes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from integration.kernel import workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Piece, Recorder
from otelbpf.connections.address import parse_endpoints
from otelbpf.events.traffic import Data, State
from otelbpf.events.wire import Flag, Loss, TcpState
from otelbpf.sources import kprobes

REFUSED, TIMED_OUT, RESET = 111, 110, 104
REQUEST, RESPONSE = len(workload.REQUEST), len(workload.RESPONSE)


def test_the_states_of_a_connection_that_the_client_closes(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.one_exchange)

    client, server = recorder.side(client_port, server_port), recorder.side(server_port, client_port)
    assert client.states == [TcpState.SYN_SENT, TcpState.ESTABLISHED, TcpState.FIN_WAIT1, TcpState.CLOSE]
    assert server.states == [TcpState.ESTABLISHED, TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSE]
    assert {event.flags & 7 for event in client.events} == {Flag.CLIENT}
    assert {event.flags & 7 for event in server.events} == {Flag.SERVER}


def test_the_account_at_the_end_is_exact(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.one_exchange)

    client, server = recorder.side(client_port, server_port).last, recorder.side(server_port, client_port).last
    assert (client.sent, client.received, client.arrived) == (REQUEST, RESPONSE, RESPONSE)
    assert (server.sent, server.received, server.arrived) == (RESPONSE, REQUEST, REQUEST)
    # The kernel's own counters know of SYN and FIN.
    assert (client.bytes_acked, client.bytes_received) == (REQUEST + 2, RESPONSE + 1)
    assert (server.bytes_acked, server.bytes_received) == (RESPONSE + 1, REQUEST + 1)
    assert (client.error, server.error) == (0, 0)


def test_both_ends_know_each_other_by_sequence_numbers(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.one_exchange)

    client, server = recorder.side(client_port, server_port).last, recorder.side(server_port, client_port).last
    assert client.first_sent == server.first_received != 0
    assert client.first_received == server.first_sent != 0


@pytest.mark.parametrize(("family", "address"), [("ipv4", "127.0.0.1"), ("ipv6", "::1"), ("mapped", "127.0.0.1")])
def test_addresses(recorder: Recorder, do: Run, family: str, address: str) -> None:
    client_port, server_port = do(workload.rounds, "write", "read", family, [b"x"])

    for local, remote in ((client_port, server_port), (server_port, client_port)):
        for event in recorder.side(local, remote).events:
            ends = parse_endpoints(event.endpoints)
            # The source port is chosen after the first record of a connection.
            assert (ends.local_address, ends.local_port) in {(address, local), (address, 0)}
            assert (ends.remote_address, ends.remote_port) == (address, remote)
            assert ends.namespace == os.stat("/proc/self/ns/net").st_ino


def test_a_refused_connection(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.refused)

    side = recorder.side(client_port, server_port)
    assert side.states == [TcpState.SYN_SENT, TcpState.CLOSE]
    assert side.last.error == REFUSED
    assert (side.last.sent, side.last.received, side.last.arrived) == (0, 0, 0)


def test_a_connection_that_times_out(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.timed_out)

    side = recorder.side(client_port, server_port)
    assert side.states == [TcpState.SYN_SENT, TcpState.CLOSE]
    assert side.last.error == TIMED_OUT


def test_a_reset(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.reset)

    client, server = recorder.side(client_port, server_port), recorder.side(server_port, client_port)
    assert client.states == [TcpState.SYN_SENT, TcpState.ESTABLISHED, TcpState.CLOSE]
    assert server.states == [TcpState.ESTABLISHED, TcpState.CLOSE]
    assert server.last.error == RESET
    assert (server.last.sent, server.last.received, server.last.arrived) == (0, REQUEST, REQUEST)
    assert (client.last.sent, client.last.received) == (REQUEST, 0)


def test_bytes_that_were_never_read(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.close_unread)

    server = recorder.side(server_port, client_port)
    assert server.received == [Piece(0, workload.REQUEST[:4])]
    assert (server.last.received, server.last.arrived) == (4, REQUEST)
    assert recorder.side(client_port, server_port).last.error == RESET


def test_bytes_read_after_the_end_come_before_the_end(recorder: Recorder, do: Run) -> None:
    """The FIN that answers ours ends the protocol's life at once; the application reads what is there all the same."""
    client_port, server_port = do(workload.half_close)

    client = recorder.side(client_port, server_port)
    assert client.received == [Piece(0, workload.RESPONSE)]
    assert isinstance(client.events[-1], State)
    assert client.last.new_state == TcpState.CLOSE
    assert (client.last.received, client.last.arrived) == (RESPONSE, RESPONSE)
    assert recorder.side(server_port, client_port).last.received == REQUEST


def test_a_killed_client(recorder: Recorder, do: Run) -> None:
    client_port, server_port = do(workload.killed)

    client, server = recorder.side(client_port, server_port), recorder.side(server_port, client_port)
    assert client.sent == server.received == [Piece(0, workload.REQUEST[:10])]
    assert (client.last.sent, server.last.arrived, server.last.received) == (10, 10, 10)


class Before:
    """A connection that was open, and used, before the probes were."""

    def __init__(self, do: Run) -> None:
        self.ports: workload.Ports = do(workload.hold, "before")
        do(workload.use, "before")


@pytest.fixture(scope="module")
def before(do: Run) -> Before:
    """Made before `late`."""
    return Before(do)


@pytest.fixture(scope="module")
def late(tier: str, before: Before) -> Iterator[Recorder]:
    """A source that starts when the connection is already there."""
    assert before.ports
    recorder = Recorder(tier=tier)
    yield recorder
    recorder.close()


def test_a_connection_older_than_the_probes_is_joined(late: Recorder, before: Before, do: Run) -> None:
    do(workload.use, "before")
    do(workload.let_go, "before")
    client_port, server_port = before.ports

    client, server = late.side(client_port, server_port), late.side(server_port, client_port)
    assert client.sent == server.received == [Piece(0, workload.REQUEST)]
    assert server.sent == client.received == [Piece(0, workload.RESPONSE)]
    assert {event.flags & 7 for event in client.events} == {Flag.CLIENT | Flag.JOINED}
    assert {event.flags & 7 for event in server.events} == {Flag.SERVER | Flag.JOINED}
    assert (server.last.sent, server.last.received, server.last.arrived) == (RESPONSE, REQUEST, REQUEST)
    assert (server.last.first_sent, server.last.first_received) == (0, 0)


def test_a_connection_still_open_at_the_end_is_told(tier: str, do: Run) -> None:
    recorder = Recorder(tier=tier)
    client_port, server_port = do(workload.hold, "open")
    do(workload.use, "open")
    recorder.side(server_port, client_port, closed=False)
    recorder.stop()
    server = recorder.side(server_port, client_port, closed=False)
    do(workload.let_go, "open")
    recorder.source.close()

    assert (server.last.old_state, server.last.new_state) == (TcpState.ESTABLISHED, TcpState.ESTABLISHED)
    assert (server.last.sent, server.last.received, server.last.arrived) == (RESPONSE, REQUEST, REQUEST)
    assert server.sent == [Piece(0, workload.RESPONSE)]


def test_nothing_of_the_collectors_own_is_traced_at_either_end(
    recorder: Recorder, do: Run, worker: ProcessPoolExecutor
) -> None:
    """This process is the collector: it opens one connection and accepts another, with the worker at the other ends."""
    before = recorder.losses(Loss.OWN)
    own: list[set[int]] = []
    with socket.create_connection(("127.0.0.1", do(workload.open_port))) as client:
        answered = worker.submit(workload.answer)
        client.sendall(workload.REQUEST)
        workload.read_exactly(client, RESPONSE)
        own.append({client.getsockname()[1], client.getpeername()[1]})
    answered.result()
    with workload.listen() as listener:
        own.append({do(workload.ask, listener.getsockname()[1]), listener.getsockname()[1]})
        server, _ = listener.accept()
    with server:
        workload.read_exactly(server, REQUEST)
        server.sendall(workload.RESPONSE)
        do(workload.hear)
    recorder.settle()

    assert [event for event in recorder.events if isinstance(event, Data | State) and port_pair(event) in own] == []
    events, count = recorder.losses(Loss.OWN)
    assert (events - before[0], count - before[1]) == (8, 4 * (REQUEST + RESPONSE))


def port_pair(event: Data | State) -> set[int]:
    """Both ports of the connection."""
    ends = parse_endpoints(event.endpoints)
    return {ends.local_port, ends.remote_port}


KILLED = """
import os, signal
from otelbpf.sources.live import LiveSource
source = LiveSource(tier="kprobe")
print("attached", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_collector_leaves_is_removed_by_the_next(tier: str) -> None:
    if tier != "kprobe":
        pytest.skip("only kprobes leave something behind: events in tracefs")
    killed = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    output, _ = killed.communicate()
    left = kprobes.remove_abandoned()

    assert output == "attached\n"
    assert {event.rpartition("/")[2] for event in left} >= {
        "tcp_sendmsg_r",
        "tcp_sendmsg_p",
        "tcp_recvmsg_r",
        "tcp_recvmsg_p",
    }
    assert {event.split("_")[1] for event in left} == {str(killed.pid)}
    assert kprobes.remove_abandoned() == []
