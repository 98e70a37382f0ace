"""The collector's own words, on standard error: key=value at a terminal, JSON otherwise; warnings that cannot flood.

Nothing a stranger wrote reaches a terminal as it is: control characters are escaped and long texts cut.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

LONGEST_TEXT = 500


def printable(text: str, *, longest: int = LONGEST_TEXT) -> str:
    """The text without anything a terminal would obey, on one line, cut to `longest` characters."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def _printable_values(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


class _Unbreakable(io.TextIOBase):
    """A stream on which writing never fails: who logs is at work, and a reader of standard error that went away must
    not end it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(*, stream: TextIO | None = None, level: str = "info") -> None:
    """Let every logger write to this stream (standard error unless given), as befits what it is; nothing that is less
    important than `level`."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            _printable_values,
            structlog.dev.ConsoleRenderer(pad_event_to=0) if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unbreakable(stream))),
        cache_logger_on_first_use=False,
    )


def logger(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A logger that says these fields each time. Standard output is never written to: until `configure` was called,
    standard error is taken."""
    if not structlog.is_configured():
        configure()
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(**fields)
    return bound


class RateLimited:
    """Warnings of one kind: a line at first, then at most one an interval with how many were passed over, and one line
    when the trouble is over. May be used by several threads."""

    def __init__(
        self,
        log: structlog.typing.FilteringBoundLogger,
        *,
        interval_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._passed_over = 0
        self._shown = False

    def warn(self, event: str, **fields: object) -> None:
        """It happened, again or for the first time."""
        with self._lock:
            now = self._clock()
            if self._next and now < self._next:
                self._passed_over += 1
                return
            self._next = now + self._interval_seconds
            self._shown = True
            passed_over, self._passed_over = self._passed_over, 0
        if passed_over:
            fields["times_not_shown"] = passed_over
        self._log.warning(event, **fields)

    def recovered(self, event: str, **fields: object) -> None:
        """It is over; says so if the trouble was ever shown since the last time."""
        with self._lock:
            if not self._shown:
                return
            self._shown = False
            passed_over, self._passed_over = self._passed_over, 0
        if passed_over:
            fields["times_not_shown"] = passed_over
        self._log.info(event, **fields)
