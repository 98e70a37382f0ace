"""The kernel's ring buffer, mapped and walked: records as bytes, copied out once.

The layout is documented at https://docs.kernel.org/bpf/ringbuf.html: one page with the consumer's position, one with
the producer's, then the data, mapped twice in a row, so that no record is ever cut in two. Of the second time only as
much is mapped as the longest record needs: mapped pages count as this process's memory.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

_PAGE: Final = mmap.PAGESIZE
_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_LENGTH: Final = _DISCARDED - 1
_HEADER_BYTES: Final = 8
_LONGEST_BYTES: Final = 20 * _PAGE
"""More than any record: the plain text of TLS has at most 64 KiB (PLAIN_HUGE in probes/include/tls.h) in one."""
_header = struct.Struct("<I8xI").unpack_from
"""The ring's, and the first of the record's own (struct record_header), with its size."""


class Ring:
    """Reads the ring buffer behind `descriptor`, `size` bytes.

    A record may have reserved more than it uses. What lies there are other records of before, and not handed out."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._size = size
        self._consumer = mmap.mmap(descriptor, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        mapped = _PAGE + size + min(size, _LONGEST_BYTES)
        self._producer = mmap.mmap(descriptor, mapped, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._read_position = memoryview(self._consumer)[:8].cast("Q")
        self._written_position = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[_PAGE:]

    def read(self, limit: int = 8192) -> list[bytes]:
        """At most `limit` records, in order; what they took is free again when this returns. A record still being
        written ends the list: it and those behind it come with a later call."""
        data, mask, mapped = self._data, self._size - 1, self._producer
        position, end = self._read_position[0], self._written_position[0]
        records: list[bytes] = []
        while position < end and len(records) < limit:
            at = position & mask
            length, used = _header(data, at)
            if length & _BUSY:
                break
            size = length & _LENGTH
            if not length & _DISCARDED:
                at += _PAGE + _HEADER_BYTES
                records.append(mapped[at : at + (used if used < size else size)])
            position += (size + _HEADER_BYTES + 7) & ~7
        self._read_position[0] = position
        return records

    @property
    def read_to(self) -> int:
        """Bytes read since the ring was made."""
        return int(self._read_position[0])

    @property
    def written_to(self) -> int:
        """Bytes written since the ring was made, those being written included."""
        return int(self._written_position[0])

    def close(self) -> None:
        """Unmap; harmless when called twice."""
        for view in (self._read_position, self._written_position, self._data):
            view.release()
        self._consumer.close()
        self._producer.close()


def of_kind(records: list[bytes], kind: int) -> list[bytes]:
    """Those of one kind (events.wire.Kind); the kinds of live records are below 256."""
    return [record for record in records if record[0] == kind]
