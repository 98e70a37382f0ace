"""A capture file as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from otelbpf.events.capture import CaptureReader


class CaptureSource:
    """Delivers what a source delivered when it was recorded, as fast as it is taken."""

    def __init__(self, path: str | Path) -> None:
        self._reader = CaptureReader(path)
        self._stopped = False

    def batches(self) -> Iterator[Sequence[bytes]]:
        """The recorded records; a damaged file raises CaptureError behind the last whole one."""
        for batch in self._reader.batches():
            if self._stopped:
                return
            yield batch

    def stop(self) -> None:
        """End before the next batch."""
        self._stopped = True

    def mute(self, key: bytes) -> None:
        """Nothing is saved by it: the records are already made, and their bytes must be accounted for."""

    def copy_more(self, key: bytes) -> None:
        """Too late: what was copied was decided when it was recorded."""

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        """Too late, likewise."""

    def close(self) -> None:
        """Release the file."""
        self._reader.close()
