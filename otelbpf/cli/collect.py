"""The loop every command shares: records from a source into whatever takes them, until the source ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from otelbpf.sources.base import Source


def collect(
    source: Source,
    *,
    take: Callable[[Sequence[bytes]], object],
    stop: Callable[[], object],
    duration_seconds: float = 0.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Give every batch to `take`, the empty ones too: they tell that time has passed. After `duration_seconds`
    (0: never) `stop` is called, which stops the source; what it had captured by then is still taken."""
    end = monotonic() + duration_seconds if duration_seconds else math.inf
    for records in source.batches():
        take(records)
        if monotonic() >= end:
            end = math.inf
            stop()
