"""What finds no room is counted, byte for byte, and every end is told in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from integration.kernel import workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Recorder
from otelbpf.events.decode import decode
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Losses
from otelbpf.events.wire import Flag, Loss, TcpState
from otelbpf.sources.live import LiveSource

RING_BYTES = 1 << 16
MESSAGES, SIZE = 600, 500


@pytest.fixture
def unread(tier: str) -> Iterator[LiveSource]:
    """A source that nobody reads until the test does, with a ring that is soon full."""
    source = LiveSource(tier=tier, ring_bytes=RING_BYTES, keep_privileges=True)
    yield source
    source.close()


def test_a_full_ring_loses_nothing_uncounted(unread: LiveSource, do: Run) -> None:
    worker = do(workload.hold, "first") and do(workload.use, "first")
    (client_port, server_port), size = do(workload.flood, MESSAGES, SIZE)
    do(workload.let_go, "first")
    unread.stop()
    events = [decode(record) for batch in unread.batches() for record in batch]

    mine = [event for event in events if isinstance(event, Data | State) and event.pid in (worker, 0)]
    for local, remote in ((client_port, server_port), (server_port, client_port)):
        ports = local.to_bytes(2, "little") + remote.to_bytes(2, "little")
        side = [event for event in mine if event.endpoints[32:36] == ports]
        last = [event for event in side if isinstance(event, State)][-1]
        sent = sum(event.length for event in side if isinstance(event, Data) and event.flags & Flag.SENT)
        received = sum(event.length for event in side if isinstance(event, Data) and not event.flags & Flag.SENT)
        assert last.new_state == TcpState.CLOSE
        assert sent + last.lost_sent == last.sent
        assert received + last.lost_received == last.received == last.arrived
        assert last.sent + last.received == size
    (losses,) = [event for event in events if isinstance(event, Losses)][-1:]
    assert losses.counts[Loss.RING_FULL_DATA][0] > 0
    assert losses.counts[Loss.RING_FULL_STATE][0] > 0


def test_an_end_without_room_is_told_when_there_is(tier: str, do: Run) -> None:
    source = LiveSource(tier=tier, ring_bytes=RING_BYTES, keep_privileges=True)
    (client_port, server_port), size = do(workload.flood, MESSAGES, SIZE)
    ports = client_port.to_bytes(2, "little") + server_port.to_bytes(2, "little")
    ends: list[State] = []
    for batch in source.batches():
        for event in map(decode, batch):
            if isinstance(event, State) and event.endpoints[32:36] == ports and event.new_state == TcpState.CLOSE:
                ends.append(event)
                source.stop()
    source.close()

    assert [(end.sent, end.received) for end in ends] == [(size, 0)]


def test_sockets_without_a_place_in_the_table_are_counted(tier: str, do: Run) -> None:
    recorder = Recorder(tier=tier, max_sockets=8, pids=[do(os.getpid)])
    connections, size = do(workload.many_exchanges, 23)
    recorder.settle()
    recorder.close()

    told = sum(event.length for event in recorder.events if isinstance(event, Data))
    counts = [event.counts for event in recorder.events if isinstance(event, Losses)][-1]
    assert len(connections) == 23
    assert 0 < told < size
    # Sockets of other processes want places too.
    assert told + counts[Loss.TABLE_FULL][1] >= size


@pytest.mark.parametrize("ring_bytes", [1 << 26, 1 << 17])
def test_every_account_balances_whatever_happens_at_once(tier: str, do: Run, ring_bytes: int) -> None:
    recorder = Recorder(tier=tier, ring_bytes=ring_bytes, pids=[do(os.getpid)])
    do(workload.churn, 3.0, 23)
    recorder.close()

    sides: dict[bytes, list[Data | State]] = {}
    for event in recorder.events:
        if isinstance(event, Data | State):
            sides.setdefault(event.key, []).append(event)
    assert len(sides) > 23
    for events in sides.values():
        last = events[-1]
        assert isinstance(last, State)
        assert [event for event in events[:-1] if isinstance(event, State) and event.new_state == TcpState.CLOSE] == []
        sent = sum(event.length for event in events if isinstance(event, Data) and event.flags & Flag.SENT)
        received = sum(event.length for event in events if isinstance(event, Data) and not event.flags & Flag.SENT)
        assert (sent + last.lost_sent, received + last.lost_received) == (last.sent, last.received)
        assert last.received <= last.arrived
