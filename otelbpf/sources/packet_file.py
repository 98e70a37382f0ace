"""Packet files: pcap (micro- and nanoseconds, either byte order) and pcapng (any number of sections and interfaces).

Frames come in the order they were written. A file that is cut or damaged delivers every frame before the damage,
then CaptureError with the offset. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from otelbpf.errors import CaptureError

MAX_FRAME_BYTES: Final = 1 << 20
"""Four times tcpdump's largest snapshot; what claims to be longer is damage, and costs no memory."""
_MAX_BLOCK_BYTES: Final = 1 << 24
_MAX_TIME_NS: Final = (1 << 63) - 1

# Magic number to byte order and nanoseconds per fraction.
_PCAP: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_PCAP_MAJOR: Final = 2
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
MAGICS: Final = (*_PCAP, _PCAPNG)

_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_OPTION_TSRESOL, _OPTION_TSOFFSET = 9, 14


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as captured."""

    time_ns: int
    """Unix time"""
    link_type: int
    data: bytes
    length: int
    """On the wire; `data` is shorter where the capture cut it."""


class _Interface(msgspec.Struct, frozen=True):
    link_type: int
    snapshot_bytes: int
    ticks_per_second: int = 1_000_000
    offset_seconds: int = 0

    def time_ns(self, ticks: int) -> int:
        time_ns = self.offset_seconds * 1_000_000_000 + ticks * 1_000_000_000 // self.ticks_per_second
        return min(max(time_ns, 0), _MAX_TIME_NS)


class _Damage(Exception):
    """What is wrong at the offset being read."""


class PacketFile:
    """One packet file, open."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._offset = 0
        self._begin = 0
        """Offset of the record or block being read: where an error is said to be."""
        try:
            self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise CaptureError(f"cannot read {path}: {error.strerror}", "check the path") from None

    def frames(self) -> Iterator[Frame]:
        """Every frame of the file."""
        try:
            magic = self._read(4)
            yield from self._pcapng() if magic == _PCAPNG else self._pcap(magic)
        except _Damage as damage:
            raise CaptureError(
                f"{self._path} {damage} at byte {self._begin}",
                "everything before it was read; capture again",
                offset=self._begin,
            ) from None
        except OSError as error:
            raise CaptureError(f"cannot read {self._path}: {error.strerror}", "check the path") from None

    def close(self) -> None:
        """Release the file; harmless when called twice."""
        self._file.close()

    def _pcap(self, magic: bytes) -> Iterator[Frame]:
        if magic not in _PCAP:
            raise _Damage("is not a packet file")
        order, fraction_ns = _PCAP[magic]
        # Behind the link type's 16 bits stand the frame check sequence's length and reserved bits.
        major, minor, link_type = struct.unpack(order + "HH12xI", self._read(20))
        if major != _PCAP_MAJOR:
            raise _Damage(f"is of pcap version {major}.{minor}, which is not known,")
        link_type &= 0xFFFF
        header = struct.Struct(order + "IIII")
        while True:
            self._begin = self._offset
            raw = self._read(header.size, may_end=True)
            if not raw:
                return
            seconds, fraction, captured, length = header.unpack(raw)
            data = self._frame(captured)
            yield Frame(seconds * 1_000_000_000 + fraction * fraction_ns, link_type, data, max(length, captured))

    def _pcapng(self) -> Iterator[Frame]:
        order = self._section()
        interfaces: list[_Interface] = []
        time_ns = 0
        while True:
            self._begin = self._offset
            raw = self._read(4, may_end=True)
            if not raw:
                return
            if raw == _PCAPNG:
                order = self._section()
                interfaces = []
                continue
            (kind,) = struct.unpack(order + "I", raw)
            body = self._block(order)
            if kind == _INTERFACE:
                interfaces.append(_interface(order, body))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                frame = _packet(order, kind, body, interfaces, time_ns)
                time_ns = frame.time_ns
                yield frame

    def _section(self) -> str:
        """Read the rest of a section header; returns the byte order that holds from here."""
        head = self._read(8)
        if head[4:] == b"\x4d\x3c\x2b\x1a":
            order = "<"
        elif head[4:] == b"\x1a\x2b\x3c\x4d":
            order = ">"
        else:
            raise _Damage("is damaged")
        (size,) = struct.unpack(order + "I", head[:4])
        if not 28 <= size <= _MAX_BLOCK_BYTES:
            raise _Damage("is damaged")
        rest = self._read(size - 12)
        (major,) = struct.unpack_from(order + "H", rest)
        if major != 1:
            raise _Damage(f"is of pcapng version {major}, which is not known,")
        self._expect_size(order, size, rest[-4:])
        return order

    def _block(self, order: str) -> bytes:
        """Read a block behind its type; returns its body."""
        (size,) = struct.unpack(order + "I", self._read(4))
        if size < 12 or size % 4 or size > _MAX_BLOCK_BYTES:
            raise _Damage("is damaged")
        rest = self._read(size - 8)
        self._expect_size(order, size, rest[-4:])
        return rest[:-4]

    def _expect_size(self, order: str, size: int, trailer: bytes) -> None:
        if struct.unpack(order + "I", trailer) != (size,):
            raise _Damage("is damaged")

    def _frame(self, captured: int) -> bytes:
        if captured > MAX_FRAME_BYTES:
            raise _Damage("is damaged")
        return self._read(captured)

    def _read(self, size: int, *, may_end: bool = False) -> bytes:
        data = self._file.read(size)
        if len(data) < size and (data or not may_end):
            raise _Damage("ends too early" if self._offset or data else "is empty")
        self._offset += size if data else 0
        return data


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise _Damage("is damaged")
    link_type, snapshot_bytes = struct.unpack_from(order + "H2xI", body)
    ticks_per_second, offset_seconds = 1_000_000, 0
    for code, value in _options(order, body, 8):
        if code == _OPTION_TSRESOL and len(value) == 1:
            ticks_per_second = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == _OPTION_TSOFFSET and len(value) == 8:
            (offset_seconds,) = struct.unpack(order + "q", value)
    return _Interface(link_type, snapshot_bytes, ticks_per_second, offset_seconds)


def _options(order: str, body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, position)
        if not code:
            return
        yield code, body[position + 4 : position + 4 + size]
        position += 4 + (size + 3) // 4 * 4


def _packet(order: str, kind: int, body: bytes, interfaces: list[_Interface], time_ns: int) -> Frame:
    """The frame of a packet block; a simple one has no time and is as old as the one before."""
    number, begin = 0, 20
    try:
        if kind == _SIMPLE_PACKET:
            (length,) = struct.unpack_from(order + "I", body)
            begin = 4
            captured = min(length, interfaces[0].snapshot_bytes or length)
        else:
            layout = "IIIII" if kind == _PACKET else "H2xIIII"
            number, high, low, captured, length = struct.unpack_from(order + layout, body)
            time_ns = interfaces[number].time_ns(high << 32 | low)
        link_type = interfaces[number].link_type
    except (struct.error, IndexError):
        raise _Damage("is damaged") from None
    if captured > len(body) - begin:
        raise _Damage("is damaged")
    return Frame(time_ns, link_type, body[begin : begin + captured], max(length, captured))
