"""Who is traced: by process, port, cgroup and program; what is left out is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.kernel import workload
from integration.kernel.conftest import Run
from integration.kernel.recorder import Piece, Recorder
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Identity
from otelbpf.events.wire import Loss, TcpState
from otelbpf.sources.cgroups import cgroup_root

REQUEST, RESPONSE = len(workload.REQUEST), len(workload.RESPONSE)
EXCHANGE = [Piece(0, workload.REQUEST)], [Piece(0, workload.RESPONSE)]


@contextmanager
def recording(**options: Any) -> Iterator[Recorder]:
    """A source with filters, for one test."""
    recorder = Recorder(**options)
    try:
        yield recorder
    finally:
        recorder.close()


def assert_silent_about(recorder: Recorder, found: workload.Ports) -> None:
    """No record of that connection was made."""
    recorder.settle()
    about = [
        event
        for event in recorder.events
        if isinstance(event, Data | State)
        and {int.from_bytes(event.endpoints[at : at + 2], "little") for at in (32, 34)} == set(found)
    ]
    assert about == []


def test_by_pid(tier: str, do: Run) -> None:
    with recording(tier=tier, pids=[do(os.getpid)]) as recorder:
        client_port, server_port = do(workload.one_exchange)
        child, others = do(workload.exchange_in_child)
        server = recorder.side(server_port, client_port)

        # Who accepted is known only when the process reads; the birth is told then, with its own time.
        assert server.states[0] == TcpState.ESTABLISHED
        assert server.events[0].time_ns == int.from_bytes(server.key[8:], "little") < server.events[1].time_ns
        assert (server.received, server.sent) == EXCHANGE
        assert (recorder.side(client_port, server_port).sent, server.sent) == EXCHANGE
        assert_silent_about(recorder, others)
        assert child not in {process.pid for process in recorder.processes()}
        assert recorder.losses(Loss.FILTERED)[1] >= 2 * (REQUEST + RESPONSE)


def test_by_port(tier: str, do: Run) -> None:
    client_port, server_port = do(workload.hold, "chosen")
    with recording(tier=tier, ports=[server_port]) as recorder:
        others = do(workload.one_exchange)
        do(workload.use, "chosen")
        do(workload.let_go, "chosen")

        assert recorder.side(client_port, server_port).sent == EXCHANGE[0]
        assert recorder.side(server_port, client_port).sent == EXCHANGE[1]
        assert_silent_about(recorder, others)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of the test's own, with one below."""
    root = cgroup_root()
    if root is None:
        pytest.skip("needs a mounted cgroup v2 hierarchy")
    outer = root / f"otelbpf-test-{os.getpid()}"
    inner = outer / "inner" / "most"
    inner.mkdir(parents=True)
    yield outer
    for folder in (inner, inner.parent, outer):
        folder.rmdir()


def test_by_cgroup_and_those_below(tier: str, do: Run, cgroup: Path) -> None:
    root = cgroup_root()
    assert root is not None
    with recording(tier=tier, cgroups=[str(cgroup.relative_to(root))]) as recorder:
        others = do(workload.one_exchange)
        for folder in (cgroup, cgroup / "inner" / "most"):
            _, (client_port, server_port) = do(workload.exchange_in_child, str(folder))
            assert recorder.side(client_port, server_port).sent == EXCHANGE[0]
            assert recorder.side(server_port, client_port).sent == EXCHANGE[1]
        assert_silent_about(recorder, others)


def test_by_program(tier: str, do: Run) -> None:
    """A process is traced until its program is known; the verdict then holds for its later connections."""
    worker: int = do(os.getpid)
    asked: list[Identity] = []

    def traced(identity: Identity) -> bool:
        asked.append(identity)
        return identity.pid != worker

    with recording(tier=tier, traced=traced) as recorder:
        first = do(workload.one_exchange)
        recorder.side(*first)
        recorder.until("the verdict", lambda _: worker in {identity.pid for identity in asked})
        recorder.settle()
        child, (client_port, server_port) = do(workload.exchange_in_child)
        others = do(workload.one_exchange)

        assert recorder.side(client_port, server_port).sent == EXCHANGE[0]
        assert_silent_about(recorder, others)
        assert [identity.pid for identity in asked].count(worker) == 1
        assert [identity.pid for identity in asked].count(child) == 1
