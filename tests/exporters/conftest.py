"""What the tests of exporters share."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from otelbpf.telemetry import log
from otelbpf.telemetry.ledger import ExportAccount


def await_failure(account: ExportAccount) -> None:
    """Until an attempt has failed, however slow this machine is today."""
    end = time.monotonic() + 30
    while account.failures == 0:
        assert time.monotonic() < end, "no attempt has failed"
        time.sleep(0.005)


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
