"""Records of listening sockets, from a table and a program that stand in for the kernel's."""

from __future__ import annotations

import struct

import pytest

from otelbpf.events.decode import decode
from otelbpf.events.encode import encode_endpoints, encode_identity, encode_key
from otelbpf.events.types import Event, Identity, Listener
from otelbpf.sources import maps
from otelbpf.sources.queues import LISTENER_FIELDS, Queues

LISTENER = struct.Struct("<" + "".join(code for _, code in LISTENER_FIELDS))
SOCKET = 0xFFFF888000000000


class Kernel:
    """The table, and what looking at a socket does to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table: dict[int, list[int]] = {}
        self.looks = True
        monkeypatch.setattr(
            maps, "keys", lambda table, size, limit: iter([k.to_bytes(8, "little") for k in self.table])
        )
        monkeypatch.setattr(maps, "lookup", lambda table, key, size: self._value(int.from_bytes(key, "little")))
        monkeypatch.setattr(maps, "run", lambda program, key: self._look(int.from_bytes(key, "little")))

    def listen(self, *, depth: int = 0, deepest: int = 0, port: int = 80, socket: int = SOCKET) -> None:
        self.table[socket] = [port, depth, deepest, 0]

    def _look(self, socket: int) -> bool:
        if self.looks:
            entry = self.table[socket]
            entry[3], entry[2] = entry[2], entry[1]
        return self.looks

    def _value(self, socket: int) -> bytes | None:
        port, depth, deepest, told = self.table[socket]
        ends = encode_endpoints("0.0.0.0", port, "0.0.0.0", 0, network_namespace=7)
        return LISTENER.pack(ends, 5, 11, depth, deepest, told, 128, 3)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def told(queues: Queues) -> list[Event]:
    return [decode(record) for record in queues.look(99)]


def record(depth: int, deepest: int, *, pid: int = 11, port: int = 80) -> Listener:
    ends = encode_endpoints("0.0.0.0", port, "0.0.0.0", 0, network_namespace=7)
    return Listener(encode_key(SOCKET, 5), 99, pid, ends, depth, deepest, 128, 3)


def test_a_socket_is_told_when_it_has_changed(kernel: Kernel) -> None:
    queues = Queues(1, 2)
    kernel.listen(depth=2, deepest=9)

    assert told(queues) == [record(2, 9)]
    assert told(queues) == [record(2, 2)]  # a new interval has begun
    assert told(queues) == []


def test_one_that_listens_no_more_has_an_empty_queue(kernel: Kernel) -> None:
    queues = Queues(1, 2)
    kernel.listen(depth=2, deepest=2)
    told(queues)
    kernel.table.clear()

    assert told(queues) == [record(0, 0)]
    assert told(queues) == []


def test_where_the_kernel_runs_no_program_the_deepest_is_not_known(kernel: Kernel) -> None:
    kernel.looks = False
    kernel.listen(depth=2, deepest=9)

    assert told(Queues(1, 2)) == [record(2, 2)]


def test_only_sockets_at_the_ports_asked_for(kernel: Kernel) -> None:
    kernel.listen(depth=1, deepest=1, port=81)

    assert told(Queues(1, 2, ports=[80])) == []
    assert told(Queues(1, 2, ports=[80, 81])) == [record(1, 1, port=81)]


def test_whose_it_is_is_left_out_where_only_the_kernel_could_tell(kernel: Kernel) -> None:
    kernel.listen()

    assert told(Queues(1, 2, names_owners=False)) == [record(0, 0, pid=0)]


def test_who_listens_is_introduced_once(kernel: Kernel) -> None:
    """Before its socket is told for the first time, with the time since when it listens."""
    asked: list[tuple[int, int]] = []

    def introduce(pid: int, since_ns: int) -> list[bytes]:
        asked.append((pid, since_ns))
        return [encode_identity(Identity(pid=pid, executable="/bin/orders"))]

    queues = Queues(1, 2, introduce=introduce)
    kernel.listen(depth=2, deepest=9)

    assert told(queues) == [Identity(pid=11, executable="/bin/orders"), record(2, 9)]
    assert told(queues) == [record(2, 2)]
    assert asked == [(11, 5)]


def test_who_listens_is_not_introduced_where_only_the_kernel_could_tell(kernel: Kernel) -> None:
    kernel.listen()

    assert told(Queues(1, 2, names_owners=False, introduce=lambda *_: [b"never"])) == [record(0, 0, pid=0)]
