"""A capture file is a full stand-in for the source it was recorded from."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbpf.errors import CaptureError
from otelbpf.events.capture import CaptureWriter
from otelbpf.sources.base import Source
from otelbpf.sources.capture import CaptureSource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A capture of 1200 records, more than two batches."""
    with CaptureWriter(tmp_path / "some.cap") as writer:
        writer.write([b"%d" % number for number in range(1200)])
    return tmp_path / "some.cap"


def test_delivers_every_record(path: Path) -> None:
    """In order; muting a socket keeps nothing back, since its bytes must be accounted for."""
    source: Source = CaptureSource(path)
    source.mute(bytes(16))
    source.copy_more(bytes(16))
    source.walk_frames(bytes(16), 0, 0)

    assert [record for batch in source.batches() for record in batch] == [b"%d" % number for number in range(1200)]
    source.close()
    source.close()


def test_stops_before_the_next_batch(path: Path) -> None:
    """What was delivered is delivered; no more comes."""
    source = CaptureSource(path)
    batches = source.batches()
    first = next(batches)
    source.stop()

    assert [*first, *(record for batch in batches for record in batch)] == list(first)
    source.close()


def test_damage_is_told_after_what_was_read(path: Path) -> None:
    """The last record is cut: 1199 records, then the error."""
    path.write_bytes(path.read_bytes()[:-9])
    source = CaptureSource(path)
    records: list[bytes] = []
    with pytest.raises(CaptureError, match="ends too early"):
        records.extend(record for batch in source.batches() for record in batch)
    source.close()

    assert records == [b"%d" % number for number in range(1199)]
