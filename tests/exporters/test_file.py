"""Files, pipes and standard output: whole lines or none, and every span counted."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from otelbpf.errors import ExportError
from otelbpf.exporters.base import Delivered, Exporter, Refused, Unavailable
from otelbpf.exporters.build import build_exporters
from otelbpf.exporters.file import FileSender, open_file
from otelbpf.telemetry.ledger import Ledger, Lost
from tests.exporters.conftest import Words, await_failure
from tests.exporters.sample import VERSION, made


def _exporter(spec: str, stdout_fd: int = 1, **environment: str) -> Exporter:
    return build_exporters(
        [spec], environment=environment, ledger=Ledger(), version=VERSION, stdout_fd=stdout_fd, patience_seconds=10.0
    )[0]


def _numbers(lines: bytes) -> list[int]:
    spans = []
    for line in lines.splitlines():
        for one in json.loads(line)["resourceSpans"]:
            spans += [int(span["spanId"], 16) for span in one["scopeSpans"][0]["spans"]]
    return spans


def test_a_file_is_emptied_and_then_filled(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text("what was there before\n")
    exporter = _exporter(f"file:{path}", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="100")
    exporter.export(made(230))
    exporter.flush(5)
    exporter.export(made(23, begin=230))
    exporter.shutdown(5)

    assert _numbers(path.read_bytes()) == list(range(253))
    assert path.read_bytes().count(b"\n") == 4
    assert (exporter.account.exported, exporter.account.balance()) == (253, 0)


def test_a_file_that_somebody_truncates_goes_on_from_there(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    exporter = _exporter(f"file:{path}")
    exporter.export(made(23))
    exporter.flush(5)
    os.truncate(path, 0)
    exporter.export(made(2, begin=23))
    exporter.shutdown(5)

    assert _numbers(path.read_bytes()) == [23, 24]


def test_standard_output_has_lines_and_nothing_else(words: Words) -> None:
    reader, writer = os.pipe()
    exporter = _exporter("file:-", writer)
    exporter.export(made(23))
    exporter.shutdown(5)
    os.close(writer)

    with open(reader, "rb") as pipe:
        assert _numbers(pipe.read()) == list(range(23))
    assert exporter.account.exported == 23
    assert words.lines() == []


def test_a_reader_that_goes_away_refuses_the_rest(words: Words) -> None:
    reader, writer = os.pipe()
    exporter = _exporter("file:-", writer)
    exporter.export(made(23))
    exporter.flush(5)
    os.close(reader)
    exporter.export(made(7, begin=23))
    exporter.export(made(2, begin=30))
    exporter.shutdown(5)
    os.close(writer)

    account = exporter.account
    assert (account.accepted, account.exported, dict(account.lost)) == (32, 23, {Lost.REJECTED: 9})
    assert account.balance() == 0
    assert words.events() == ["exporter.rejected"]
    assert words.lines()[0]["reason"] == "Broken pipe"


def test_a_reader_that_does_not_read_makes_spans_wait(words: Words) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    sender = FileSender(writer, owned=True)

    assert sender.send(b"line\n", 0.05) == Unavailable("the reader does not read")
    sender.close()
    os.close(reader)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_gets_the_whole_line(blocking: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    line = b"x" * 1_000_000 + b"\n"
    got = bytearray()

    def read() -> None:
        while piece := os.read(reader, 50_000):
            got.extend(piece)
            time.sleep(0.001)

    thread = threading.Thread(target=read)
    thread.start()
    sender = FileSender(writer, owned=True)
    outcome = sender.send(line, 1.0)
    sender.close()
    thread.join()
    os.close(reader)

    assert outcome == Delivered()
    assert bytes(got) == line


def test_a_full_disk_leaves_no_half_line_and_the_next_attempt_writes_it_whole(tmp_path: Path) -> None:
    """The limit on file sizes stands in for the disk's."""
    path = tmp_path / "spans.jsonl"
    sender = open_file(str(path))
    assert sender.send(b"a" * 600 + b"\n", 1.0) == Delivered()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        outcome = sender.send(b"b" * 600 + b"\n", 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert outcome == Unavailable("File too large")
    assert path.read_bytes() == b"a" * 600 + b"\n"
    assert sender.send(b"b" * 600 + b"\n", 1.0) == Delivered()
    assert path.read_bytes() == b"a" * 600 + b"\n" + b"b" * 600 + b"\n"
    sender.close()
    sender.close()


def test_a_disk_that_stays_full_is_told_once_and_counted(words: Words) -> None:
    exporter = _exporter("file:/dev/full")
    exporter.export(made(23))
    await_failure(exporter.account)
    exporter.shutdown(0.0)

    account = exporter.account
    assert (account.exported, dict(account.lost), account.balance()) == (0, {Lost.UNDELIVERED: 23}, 0)
    assert words.events() == ["exporter.unavailable", "exporter.undelivered"]
    assert words.lines()[0]["reason"] == "No space left on device"


def test_a_broken_pipe_is_final() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sender = FileSender(writer, owned=True)

    assert sender.send(b"line\n", 1.0) == Refused("Broken pipe")
    sender.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "Is a directory; name a file in it"),
        ("no/spans.jsonl", "No such file or directory; make its folder first: mkdir -p {folder}/no"),
        ("x" * 300, "File name too long; choose another place with --export file:PATH, or file:- for standard output"),
        ("a\0b", "a path has no NUL; choose another place with --export file:PATH, or file:- for standard output"),
        ("pipe", "No such device or address; choose another place with --export file:PATH, or file:- for standard"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = f"{tmp_path}/{name}"
    with pytest.raises(ExportError) as caught:
        open_file(path)

    expected = f"cannot write spans to {path!r}: {words.format(folder=tmp_path)}"
    assert str(caught.value)[: len(expected)] == expected
