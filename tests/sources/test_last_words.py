"""When the ends that the ring could not take are told, with two tables made of Python."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from otelbpf.events.decode import decode
from otelbpf.events.traffic import State
from otelbpf.events.wire import TcpState
from otelbpf.sources import last_words
from otelbpf.sources.last_words import LastWords
from otelbpf.sources.sockets import ENTRY, ENTRY_FIELDS, Life

SOCKETS, UNTOLD = 3, 4


class Tables:
    """bpf(2) on two maps."""

    def __init__(self) -> None:
        self.values: dict[int, dict[bytes, bytes]] = {SOCKETS: {}, UNTOLD: {}}

    def keys(self, descriptor: int, size: int, *, limit: int) -> Iterator[bytes]:
        assert all(len(key) == size for key in self.values[descriptor])
        yield from list(self.values[descriptor])

    def lookup(self, descriptor: int, key: bytes, size: int) -> bytes | None:
        assert size == ENTRY.size
        return self.values[descriptor].get(key)

    def delete(self, descriptor: int, key: bytes) -> None:
        del self.values[descriptor][key]


class Positions:
    """How far a ring is written and read."""

    def __init__(self) -> None:
        self.read_to = self.written_to = 0


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Tables:
    made = Tables()
    monkeypatch.setattr(last_words, "maps", made)
    return made


@pytest.fixture
def ring() -> Positions:
    return Positions()


@pytest.fixture
def words(tables: Tables, ring: Positions) -> LastWords:
    return LastWords(SOCKETS, UNTOLD, ring)  # type: ignore[arg-type]


def value(**fields: int) -> bytes:
    known: dict[str, int | bytes] = {"told": 1, **fields}
    return ENTRY.pack(*(known.get(name, b"" if code.endswith("s") else 0) for name, code in ENTRY_FIELDS))


def ended(tables: Tables, socket: int, epoch_ns: int) -> None:
    """An end for which there was no room."""
    tables.values[UNTOLD][struct.pack("<QQ", socket, epoch_ns)] = value(
        epoch_ns=epoch_ns, life=Life.CLOSED, state=TcpState.CLOSE, old_state=TcpState.LAST_ACK, sent=socket
    )


def lives(records: list[bytes]) -> list[tuple[bytes, TcpState, int]]:
    events = [event for event in map(decode, records) if isinstance(event, State)]
    return [(event.key, event.new_state, event.sent) for event in events]


def test_nothing_is_looked_for_while_nothing_is_lost(tables: Tables, words: LastWords) -> None:
    ended(tables, 11, 1)
    words.look(0)

    assert words.due() == []
    assert len(tables.values[UNTOLD]) == 1


def test_an_end_waits_for_what_lies_in_the_ring_before_it(tables: Tables, ring: Positions, words: LastWords) -> None:
    ended(tables, 11, 1)
    ended(tables, 11, 2)
    ring.written_to = 1000
    words.look(2)
    ring.written_to = 2000
    ring.read_to = 999

    assert words.due() == []
    ring.read_to = 1000
    assert lives(words.due()) == [
        (struct.pack("<QQ", 11, 1), TcpState.CLOSE, 11),
        (struct.pack("<QQ", 11, 2), TcpState.CLOSE, 11),
    ]
    assert words.due() == []
    assert tables.values[UNTOLD] == {}


def test_at_the_end_everything_is_told_once(tables: Tables, ring: Positions, words: LastWords) -> None:
    ended(tables, 11, 1)
    ring.written_to = 1000
    words.look(1)
    ended(tables, 12, 2)
    established = {"state": TcpState.ESTABLISHED, "end_sent": 7}
    tables.values[SOCKETS] = {
        struct.pack("<Q", 13): value(epoch_ns=3, life=Life.OPEN, **established),
        struct.pack("<Q", 14): value(epoch_ns=4, life=Life.CLOSED, **established),
        struct.pack("<Q", 15): value(epoch_ns=5, life=Life.OPEN, told=0, **established),
    }

    assert lives(list(words.at_end())) == [
        (struct.pack("<QQ", 11, 1), TcpState.CLOSE, 11),
        (struct.pack("<QQ", 12, 2), TcpState.CLOSE, 12),
        (struct.pack("<QQ", 13, 3), TcpState.ESTABLISHED, 7),
    ]
    assert words.due() == []
