"""What was recorded is read back; of a file that is not as it was written, everything before the damage."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.errors import CaptureError
from otelbpf.events.capture import MAX_RECORD_BYTES, CaptureReader, CaptureWriter
from otelbpf.events.wire import ABI

HEADER_BYTES = 16
FRAME_BYTES = 8
batches_of_records = st.lists(st.lists(st.binary(min_size=1, max_size=60), max_size=5), max_size=5)


def write(path: Path, *batches: list[bytes]) -> bytes:
    """A closed capture file, and its bytes."""
    with CaptureWriter(path) as writer:
        for batch in batches:
            assert writer.write(batch)
    return path.read_bytes()


def read(path: Path) -> tuple[list[bytes], CaptureError | None]:
    """All that a file delivers, and what it ends with."""
    records: list[bytes] = []
    try:
        reader = CaptureReader(path)
    except CaptureError as error:
        return records, error
    try:
        for batch in reader.batches():
            records += batch
    except CaptureError as error:
        return records, error
    finally:
        reader.close()
    return records, None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, written over and over."""
    return tmp_path_factory.mktemp("capture") / "some.cap"


@given(batches_of_records)
def test_records_come_back_in_order(path: Path, batches: list[list[bytes]]) -> None:
    """Batches are joined and cut anew; records are not."""
    write(path, *batches)

    assert read(path) == ([record for batch in batches for record in batch], None)


@given(batches_of_records, st.data())
def test_a_cut_file_delivers_every_whole_record(path: Path, batches: list[list[bytes]], data: st.DataObject) -> None:
    """Cut anywhere behind the header: the records that are whole, then the offset where the next would have begun."""
    whole = write(path, *batches)
    cut = data.draw(st.integers(HEADER_BYTES, len(whole) - 1))
    path.write_bytes(whole[:cut])
    expected: list[bytes] = []
    end = HEADER_BYTES
    for record in (record for batch in batches for record in batch):
        if end + FRAME_BYTES + len(record) > cut:
            break
        expected.append(record)
        end += FRAME_BYTES + len(record)

    records, error = read(path)

    assert records == expected
    assert error is not None
    assert error.offset == end
    assert f"at byte {end}; everything before it was read" in str(error)


@given(batches_of_records.filter(any), st.data())
def test_a_damaged_byte_is_found(path: Path, batches: list[list[bytes]], data: st.DataObject) -> None:
    """Flip any byte behind the header: nothing wrong is delivered, nothing before it is kept back."""
    whole = bytearray(write(path, *batches))
    position = data.draw(st.integers(HEADER_BYTES, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    expected: list[bytes] = []
    end = HEADER_BYTES
    for record in (record for batch in batches for record in batch):
        if end + FRAME_BYTES + len(record) > position:
            break
        expected.append(record)
        end += FRAME_BYTES + len(record)

    records, error = read(path)

    assert records == expected
    assert error is not None
    assert error.offset == end


@pytest.mark.parametrize(
    "rearranged",
    [
        lambda header, one, two, end: header + two + end,
        lambda header, one, two, end: header + two + one + end,
        lambda header, one, two, end: header + one + one + two + end,
        lambda header, one, two, end: header + one + end,
    ],
    ids=["missing", "moved", "doubled", "last missing"],
)
def test_whole_records_in_the_wrong_place_are_found(tmp_path: Path, rearranged) -> None:  # type: ignore[no-untyped-def]
    """Every CRC continues the one before."""
    path = tmp_path / "some.cap"
    whole = write(path, [b"first record", b"second one"])
    one, two = 16 + 8 + 12, 16 + 8 + 12 + 8 + 10
    path.write_bytes(rearranged(whole[:16], whole[16:one], whole[one:two], whole[two:]))

    records, error = read(path)

    assert [b"first record", b"second one"][: len(records)] == records
    assert error is not None


def test_records_across_chunks_and_batches(tmp_path: Path) -> None:
    """A file much larger than what is read at once."""
    records = [bytes([number % 251]) * (1 + number * 7 % 2000) for number in range(2000)]
    write(tmp_path / "big.cap", records)

    assert read(tmp_path / "big.cap") == (records, None)


def test_the_longest_record(tmp_path: Path) -> None:
    """At the bound it is kept, beyond it and empty it is refused when written."""
    write(tmp_path / "some.cap", [bytes(MAX_RECORD_BYTES)])

    assert read(tmp_path / "some.cap") == ([bytes(MAX_RECORD_BYTES)], None)
    for record in (b"", bytes(MAX_RECORD_BYTES + 1)):
        with (
            CaptureWriter(tmp_path / "other.cap") as writer,
            pytest.raises(ValueError, match=f"a record of {len(record)} bytes"),
        ):
            writer.write([record])


def test_a_length_beyond_the_bound_costs_no_memory(tmp_path: Path) -> None:
    """Four gigabytes announced are damage at once."""
    path = tmp_path / "some.cap"
    whole = write(path, [b"good"])
    path.write_bytes(whole[: 16 + 8 + 4] + b"\xff\xff\xff\xff" + whole[16 + 8 + 4 + 4 :])

    records, error = read(path)

    assert records == [b"good"]
    assert str(error) == f"{path} is damaged at byte 28; everything before it was read; record again"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; record again"),
        (b"GET / HTTP/1.1", "is not a capture file; make one with: otelbpf record FILE"),
        (b"OTELBPF\n\1", "ends too early at byte 9; everything before it was read; record again"),
        (b"OTELBPF\n\1\0\1\0\0\0\0\0", "is damaged at byte 0; everything before it was read; record again"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    """One line that says what it is and what helps."""
    path = tmp_path / "some.cap"
    path.write_bytes(content)

    records, error = read(path)

    assert records == []
    assert str(error) == f"{path} {message}"


@pytest.mark.parametrize(("version", "abi"), [(2, ABI), (1, ABI + 1)])
def test_a_file_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, abi: int) -> None:
    """A future format, or records of another layout: said so, not guessed at."""
    with monkeypatch.context() as patch:
        patch.setattr("otelbpf.events.capture.VERSION", version)
        patch.setattr("otelbpf.events.capture.ABI", abi)
        write(tmp_path / "some.cap", [b"from the future"])

    records, error = read(tmp_path / "some.cap")

    assert records == []
    assert str(error) == (
        f"{tmp_path}/some.cap has format {version} with records of ABI {abi}, "
        f"this otelbpf reads format 1 with ABI {ABI}; replay it with the version that recorded it, or a newer one"
    )


def test_a_file_that_goes_on_behind_its_end(tmp_path: Path) -> None:
    """Two captures in one file are not one capture."""
    path = tmp_path / "some.cap"
    whole = write(path, [b"record"])
    path.write_bytes(whole + whole)

    records, error = read(path)

    assert records == [b"record"]
    assert error is not None
    assert error.offset == len(whole)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    """The errors of the system, as one line each."""
    assert str(read(tmp_path / "none")[1]) == f"cannot read {tmp_path}/none: No such file or directory; check the path"
    assert str(read(tmp_path)[1]) == f"cannot read {tmp_path}: Is a directory; check the path"
    with pytest.raises(CaptureError) as caught:
        CaptureWriter(tmp_path / "none" / "some.cap")
    assert str(caught.value) == (
        f"cannot write {tmp_path}/none/some.cap: No such file or directory; choose another file or make room"
    )


def test_a_full_disk() -> None:
    """The system's refusal reaches the user as one line."""
    with pytest.raises(CaptureError, match="cannot write /dev/full: No space left on device"):
        CaptureWriter("/dev/full")


def test_what_was_written_survives_the_writer(tmp_path: Path) -> None:
    """A writer that is killed loses nothing that `write` returned for."""
    writer = CaptureWriter(tmp_path / "some.cap")
    writer.write([b"one", b"two"])

    records, error = read(tmp_path / "some.cap")
    writer.close()

    assert records == [b"one", b"two"]
    assert error is not None
    assert error.offset == 16 + 8 + 3 + 8 + 3


def test_a_bound_on_the_size(tmp_path: Path) -> None:
    """The file never exceeds it, end included; what found no room is counted, and nothing follows it."""
    bound = 16 + 2 * (8 + 10) + 8
    with CaptureWriter(tmp_path / "some.cap", max_bytes=bound) as writer:
        assert writer.write([bytes(10)])
        assert not writer.write([bytes(10), bytes(11), b"x"])
        assert not writer.write([b"x"])
        assert (writer.records, writer.refused) == (2, 3)

    assert (tmp_path / "some.cap").stat().st_size == bound
    assert read(tmp_path / "some.cap") == ([bytes(10), bytes(10)], None)


@pytest.mark.parametrize("was_there", [False, True])
def test_a_capture_is_private(was_there: bool, tmp_path: Path) -> None:
    """Only its owner may read what applications sent, also where everybody could read what the file held before."""
    if was_there:
        (tmp_path / "some.cap").touch(0o644)
    write(tmp_path / "some.cap", [b"secret"])

    assert (tmp_path / "some.cap").stat().st_mode & 0o777 == 0o600


def test_a_pipe_can_be_written_and_read(tmp_path: Path) -> None:
    """Nothing seeks, and a file that cannot be synced is no error."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=write_only, args=(pipe, [b"one", b"two"]))
    writing.start()
    result = read(pipe)
    writing.join()

    assert result == ([b"one", b"two"], None)


def write_only(path: Path, records: list[bytes]) -> None:
    """Write a capture where it cannot be read back here."""
    with CaptureWriter(path) as writer:
        writer.write(records)
        writer.close()
