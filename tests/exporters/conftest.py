"""What the tests of exporters share."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from otelbpf.telemetry import log


class Words:
    """What the collector said on standard error."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def lines(self) -> list[dict[str, Any]]:
        """Every line."""
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def events(self) -> list[str]:
        """What each line is about."""
        return [str(line["event"]) for line in self.lines()]


@pytest.fixture(autouse=True)
def words() -> Iterator[Words]:
    """Catches what is said, also where nobody asks."""
    stream = io.StringIO()
    log.configure(stream=stream)
    yield Words(stream)
    structlog.reset_defaults()
