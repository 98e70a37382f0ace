"""Warnings cannot flood, and nothing a stranger wrote reaches a terminal as it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from otelbpf.telemetry import log


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_unless_it_is_a_terminal() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    log.logger(exporter="otlp").warning("exporter.unavailable", waiting=7)

    line = _lines(stream)[0]
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "exporter.unavailable", "level": "warning", "exporter": "otlp", "waiting": 7}


@pytest.mark.parametrize("stream_type", [io.StringIO, _Terminal])
def test_a_terminal_obeys_no_stranger(stream_type: type[io.StringIO]) -> None:
    stream = stream_type()
    log.configure(stream=stream)
    log.logger().warning("exporter.rejected", reason="\x1b[2Jgone\r\n\x07" + "x" * 1000)

    text = stream.getvalue()
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert text.count("\n") == 1
    assert len(text) < 800


def test_standard_output_is_never_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Also by who logs before anything is configured."""
    log.logger().warning("early")

    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "early"


def test_a_reader_of_standard_error_that_went_away_stops_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    closed, told = io.StringIO(), 0
    # What was never written fails once more when the stream is closed.
    with contextlib.suppress(BrokenPipeError), open(writer, "w") as broken:
        for stream in (broken, closed):
            log.configure(stream=stream)
            if stream is closed:
                closed.close()
            log.logger().warning("nobody reads this")
            log.RateLimited(log.logger()).warn("nor this")
            told += 1
    assert told == 2


def test_one_line_at_first_then_one_an_interval_then_one_at_the_end() -> None:
    stream, now = io.StringIO(), [0.0]
    log.configure(stream=stream)
    warnings = log.RateLimited(log.logger(), interval_seconds=30.0, clock=lambda: now[0])
    for _ in range(61):
        warnings.warn("down")
        now[0] += 1.0
    warnings.recovered("up")
    warnings.recovered("up")

    assert [(line["event"], line.get("times_not_shown")) for line in _lines(stream)] == [
        ("down", None),
        ("down", 29),
        ("down", 29),
        ("up", None),
    ]


def test_flapping_does_not_flood() -> None:
    """At most one warning and one recovery an interval."""
    stream, now = io.StringIO(), [0.0]
    log.configure(stream=stream)
    warnings = log.RateLimited(log.logger(), interval_seconds=30.0, clock=lambda: now[0])
    for _ in range(60):
        warnings.warn("down")
        warnings.recovered("up")
        now[0] += 1.0

    assert [(line["event"], line.get("times_not_shown")) for line in _lines(stream)] == [
        ("down", None),
        ("up", None),
        ("down", 29),
        ("up", None),
    ]
