"""The capture file: the raw records of a source, to be read again as if the source were there.

    header   magic (8 bytes), format version (u16), ABI number of the records (u16), CRC-32 of the twelve bytes before
    record   length (u32), CRC-32 (u32), the record
    end      length 0, CRC-32

All numbers are little endian. Each CRC continues the one before it over the record's bytes, so it covers everything
up to there: a damaged byte and a record missing, doubled or moved are found alike, at the first record that is not
as it was written. Everything before that record is delivered, whatever follows. A file without its end was cut, or
its writer was killed.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final
from zlib import crc32

from otelbpf.errors import CaptureError
from otelbpf.events.wire import ABI

MAGIC: Final = b"OTELBPF\n"
VERSION: Final = 1
MAX_RECORD_BYTES: Final = 1 << 20
"""No record is longer; a longer length is damage, and costs no memory."""

_HEADER: Final = struct.Struct("<8sHH")
_FRAME: Final = struct.Struct("<II")
_CRC: Final = struct.Struct("<I")
_CHUNK_BYTES: Final = 1 << 18
_BATCH_RECORDS: Final = 512


class CaptureWriter:
    """Writes one capture file. What `write` was given has left the process when it returns."""

    def __init__(self, path: str | Path, *, max_bytes: int | None = None) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self.records = 0
        self.refused = 0
        """Records given when `max_bytes` was reached."""
        head = _HEADER.pack(MAGIC, VERSION, ABI)
        self._crc = crc32(head)
        self.bytes = 0
        try:
            self._file: BinaryIO = open(path, "wb", buffering=0, opener=_privately)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._append(head + _CRC.pack(self._crc))
        except BaseException:
            self._file.close()
            raise

    def write(self, records: Sequence[bytes]) -> bool:
        """Append records. False once the file is as large as it may be: nothing of these, or not all, was written."""
        crc = self._crc
        room = None if self._max_bytes is None else self._max_bytes - self.bytes - _FRAME.size
        frame = _FRAME.pack
        parts: list[bytes] = []
        for record in records:
            length = len(record)
            if not 0 < length <= MAX_RECORD_BYTES:
                raise ValueError(f"a record of {length} bytes")
            if room is not None:
                room -= _FRAME.size + length
                if room < 0:
                    break
            crc = crc32(record, crc)
            parts += (frame(length, crc), record)
        if parts:
            self._append(b"".join(parts))
            self._crc = crc
        written = len(parts) // 2
        self.records += written
        if written < len(records):
            self.refused += len(records) - written
            self._max_bytes = self.bytes  # a later, smaller record must not follow one that was left out
            return False
        return True

    def close(self) -> None:
        """Mark the end and see the file to the disk; harmless when called twice."""
        if self._file.closed:
            return
        try:
            self._append(_FRAME.pack(0, self._crc))
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a pipe, /dev/null: nothing to see to
                    raise self._unwritable(error) from None
        finally:
            self._file.close()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise self._unwritable(error) from None
        self.bytes += len(data)

    def _unwritable(self, error: OSError) -> CaptureError:
        return CaptureError(
            f"cannot write {self._path}: {error.strerror}", "choose another file or make room", offset=self.bytes
        )


def _privately(path: str, flags: int) -> int:
    """What applications said to each other is for nobody's eyes but the user's who recorded it: also where the file was
    there before, and everybody could read it."""
    descriptor = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # and not a pipe, or /dev/null
        os.fchmod(descriptor, 0o600)
    return descriptor


class CaptureReader:
    """Reads one capture file; raises CaptureError when it cannot be one, and after the last record that is whole."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise CaptureError(f"cannot read {path}: {error.strerror}", "check the path") from None
        try:
            self._crc = self._read_header()
        except BaseException:
            self._file.close()
            raise
        self.records = 0

    def batches(self) -> Iterator[list[bytes]]:
        """The records in the order they were written."""
        frame = _FRAME.unpack_from
        buffer = b""
        start = _HEADER.size + _CRC.size  # where in the file the buffer begins
        crc = self._crc
        batch: list[bytes] = []
        while True:
            chunk = self._read(_CHUNK_BYTES)
            buffer += chunk
            position = 0
            last = len(buffer) - _FRAME.size
            while position <= last:
                length, expected = frame(buffer, position)
                begin = position + _FRAME.size
                end = begin + length
                if end > len(buffer) and length <= MAX_RECORD_BYTES:
                    break
                record = buffer[begin:end]
                crc = crc32(record, crc)
                if crc != expected or length > MAX_RECORD_BYTES:
                    yield batch
                    raise self._damaged("is damaged", start + position)
                if not length:
                    yield batch
                    self._expect_nothing_behind(start + end, len(buffer) - end)
                    return
                batch.append(record)
                self.records += 1
                position = end
                if len(batch) >= _BATCH_RECORDS:
                    yield batch
                    batch = []
            buffer = buffer[position:]
            start += position
            if not chunk:
                yield batch
                raise self._damaged("ends too early (cut, or its recording was killed)", start)

    def close(self) -> None:
        """Release the file; harmless when called twice."""
        self._file.close()

    def _read_header(self) -> int:
        head = self._read(_HEADER.size + _CRC.size)
        if not head:
            raise CaptureError(f"{self._path} is empty", "record again")
        if not head.startswith(MAGIC[: len(head)]):
            raise CaptureError(f"{self._path} is not a capture file", "make one with: otelbpf record FILE")
        if len(head) < _HEADER.size + _CRC.size:
            raise self._damaged("ends too early", len(head))
        _, version, abi = _HEADER.unpack_from(head)
        crc = crc32(head[: _HEADER.size])
        if crc != _CRC.unpack_from(head, _HEADER.size)[0]:
            raise self._damaged("is damaged", 0)
        if (version, abi) != (VERSION, ABI):
            raise CaptureError(
                f"{self._path} has format {version} with records of ABI {abi}, "
                f"this otelbpf reads format {VERSION} with ABI {ABI}",
                "replay it with the version that recorded it, or a newer one",
                offset=len(MAGIC),
            )
        return crc

    def _expect_nothing_behind(self, end: int, behind: int) -> None:
        if behind or self._read(1):
            raise self._damaged("goes on behind its end", end)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise CaptureError(f"cannot read {self._path}: {error.strerror}", "check the path") from None

    def _damaged(self, how: str, offset: int) -> CaptureError:
        return CaptureError(
            f"{self._path} {how} at byte {offset}", "everything before it was read; record again", offset=offset
        )
