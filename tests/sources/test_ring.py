"""A ring made of plain memory is read as the kernel's would be."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from otelbpf.sources.ring import Ring

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Writer:
    """The kernel's side: reserves like bpf_ringbuf_reserve(), wherever the last record ended."""

    def __init__(self, descriptor: int, position: int) -> None:
        self._memory = mmap.mmap(descriptor, 2 * PAGE + 2 * SIZE)
        self._memory[:8] = self._memory[PAGE : PAGE + 8] = struct.pack("<Q", position)
        self.position = position

    def write(self, record: bytes, flags: int = 0) -> int:
        """Where the record's header lies."""
        at = self.position & (SIZE - 1)
        self._put(at, struct.pack("<II", len(record) | flags, 0) + record)
        self.position += (len(record) + 8 + 7) & ~7
        self._memory[PAGE : PAGE + 8] = struct.pack("<Q", self.position)
        return at

    def commit(self, at: int) -> None:
        """A record that was busy is done."""
        (length,) = struct.unpack("<I", self._memory[2 * PAGE + at : 2 * PAGE + at + 4])
        self._put(at, struct.pack("<I", length & ~BUSY))

    @property
    def free(self) -> int:
        (consumed,) = struct.unpack("<Q", self._memory[:8])
        return SIZE - (self.position - int(consumed))

    def _put(self, at: int, data: bytes) -> None:
        # The data is mapped twice in a row: what runs over the end is there at the beginning too.
        for offset, byte in enumerate(data):
            place = (at + offset) % SIZE
            for copy in (place, place + SIZE):
                self._memory[2 * PAGE + copy] = byte

    def close(self) -> None:
        self._memory.close()


@contextmanager
def ring(position: int = 0) -> Iterator[tuple[Ring, Writer]]:
    descriptor = os.memfd_create("ring")
    os.truncate(descriptor, 2 * PAGE + 2 * SIZE)
    writer = Writer(descriptor, position)
    reader = Ring(descriptor, SIZE)
    yield reader, writer
    reader.close()
    writer.close()
    os.close(descriptor)


def test_an_empty_ring_has_no_records() -> None:
    with ring() as (reader, _):
        assert reader.read() == []
        assert (reader.read_to, reader.written_to) == (0, 0)


def test_records_come_in_order_and_free_their_place() -> None:
    with ring() as (reader, writer):
        writer.write(b"first")
        writer.write(b"second, longer")

        assert (reader.read_to, reader.written_to) == (0, 16 + 24)
        assert reader.read() == [b"first", b"second, longer"]
        assert (reader.read_to, writer.free) == (16 + 24, SIZE)
        assert reader.read() == []


def test_a_discarded_record_is_passed_over() -> None:
    with ring() as (reader, writer):
        writer.write(b"never", DISCARDED)
        writer.write(b"told")

        assert reader.read() == [b"told"]


def test_a_record_being_written_holds_back_those_behind_it() -> None:
    with ring() as (reader, writer):
        writer.write(b"before")
        at = writer.write(b"slow", BUSY)
        writer.write(b"behind")

        assert reader.read() == [b"before"]
        assert reader.read() == []
        writer.commit(at)
        assert reader.read() == [b"slow", b"behind"]


def test_no_more_records_at_once_than_asked_for() -> None:
    with ring() as (reader, writer):
        for number in range(5):
            writer.write(bytes([number]))

        assert [reader.read(2), reader.read(2), reader.read(2)] == [[b"\0", b"\1"], [b"\2", b"\3"], [b"\4"]]


def test_closing_twice_is_harmless() -> None:
    with ring() as (reader, _):
        reader.close()


@given(
    start=st.integers(0, 3).map(lambda number: number * 8 + SIZE - 24),
    sizes=st.lists(st.integers(0, 900), max_size=40),
    gulp=st.integers(1, 7),
)
def test_whatever_is_written_is_read(start: int, sizes: list[int], gulp: int) -> None:
    """Over the end of the ring too, and whatever the reader takes at once."""
    records = [bytes([number]) * size for number, size in enumerate(sizes)]
    found: list[bytes] = []
    with ring(start) as (reader, writer):
        for record in records:
            while writer.free < len(record) + 16:
                found += reader.read(gulp)
            writer.write(record)
        while more := reader.read(gulp):
            found += more

    assert found == records
