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


def record(content: bytes) -> bytes:
    """Its kind and flags, its size, and what follows (struct record_header)."""
    return struct.pack("<HHI", 0, 0, 8 + len(content)) + content


class Writer:
    """The kernel's side: reserves like bpf_ringbuf_reserve(), wherever the last record ended."""

    def __init__(self, descriptor: int, position: int, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(descriptor, 2 * PAGE + 2 * size)
        self._memory[:8] = self._memory[PAGE : PAGE + 8] = struct.pack("<Q", position)
        self.position = position

    def write(self, record: bytes, flags: int = 0) -> int:
        """Where the record's header lies."""
        at = self.position & (self._size - 1)
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
        return self._size - (self.position - int(consumed))

    def _put(self, at: int, data: bytes) -> None:
        # The data is mapped twice in a row: what runs over the end is there at the beginning too.
        for begin in (at, at - self._size, at + self._size):
            first, last = max(begin, 0), min(begin + len(data), 2 * self._size)
            if first < last:
                self._memory[2 * PAGE + first : 2 * PAGE + last] = data[first - begin : last - begin]

    def close(self) -> None:
        self._memory.close()


@contextmanager
def ring(position: int = 0, size: int = SIZE) -> Iterator[tuple[Ring, Writer]]:
    descriptor = os.memfd_create("ring")
    os.truncate(descriptor, 2 * PAGE + 2 * size)
    writer = Writer(descriptor, position, size)
    reader = Ring(descriptor, size)
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
        writer.write(record(b"first"))
        writer.write(record(b"second, longer"))

        assert (reader.read_to, reader.written_to) == (0, 24 + 32)
        assert reader.read() == [record(b"first"), record(b"second, longer")]
        assert (reader.read_to, writer.free) == (24 + 32, SIZE)
        assert reader.read() == []


def test_a_discarded_record_is_passed_over() -> None:
    with ring() as (reader, writer):
        writer.write(record(b"never"), DISCARDED)
        writer.write(record(b"told"))

        assert reader.read() == [record(b"told")]


def test_a_record_being_written_holds_back_those_behind_it() -> None:
    with ring() as (reader, writer):
        writer.write(record(b"before"))
        at = writer.write(record(b"slow"), BUSY)
        writer.write(record(b"behind"))

        assert reader.read() == [record(b"before")]
        assert reader.read() == []
        writer.commit(at)
        assert reader.read() == [record(b"slow"), record(b"behind")]


def test_no_more_records_at_once_than_asked_for() -> None:
    with ring() as (reader, writer):
        for number in range(5):
            writer.write(record(bytes([number])))

        one = [record(bytes([number])) for number in range(5)]
        assert [reader.read(2), reader.read(2), reader.read(2)] == [one[0:2], one[2:4], one[4:]]


def test_room_that_a_record_does_not_use_is_not_handed_out() -> None:
    """Plain text takes room in a few sizes; what lies behind it is of records before."""
    with ring() as (reader, writer):
        writer.write(record(b"short") + b"of others")
        writer.write(record(b"next"))

        assert reader.read() == [record(b"short"), record(b"next")]


def test_the_longest_record_is_read_over_the_end_of_the_ring() -> None:
    """Of plain text 64 KiB, behind struct data_record."""
    longest = record(bytes(range(256)) * 256 + bytes(120))
    size = 32 * PAGE
    with ring(size - 64, size) as (reader, writer):
        writer.write(longest)

        assert reader.read() == [longest]


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
    records = [record(bytes([number]) * size) for number, size in enumerate(sizes)]
    found: list[bytes] = []
    with ring(start) as (reader, writer):
        for one in records:
            while writer.free < len(one) + 16:
                found += reader.read(gulp)
            writer.write(one)
        while more := reader.read(gulp):
            found += more

    assert found == records
