"""Ctrl-C, SIGTERM and a closed terminal: the first asks for an orderly end, the second takes it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class Signals:
    """While entered, a first SIGINT, SIGTERM or SIGHUP stops what `stops` named, and a second ends the process at
    once. Before anything is named, the first one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._previous: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}
        self.received = 0
        """The number of the first signal; 0 for none."""

    def stops(self, stop: Callable[[], None]) -> None:
        """From now on a signal calls `stop`."""
        self._stop = stop

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup(1): it is to outlive its terminal
            self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os.write(2, b"otelbpf: second signal, ending at once; spans still queued are lost\n")
            os._exit(128 + number)
        self.received = number
        if self._stop is None:
            raise KeyboardInterrupt
        self._stop()
