"""Where the collector's time goes under a real load, by py-spy: sampled from outside, so that it costs little."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.programs import python

SAMPLES_PER_SECOND = 400
SHOWN = 40


@contextmanager
def profiled(pid: int, stacks: Path | None) -> Iterator[None]:
    """Sample `pid` while entered; leaves one stack and its count a line in `stacks`, and does nothing without it."""
    if stacks is None:
        yield
        return
    command = [
        python().with_name("py-spy"), "record", "--pid", str(pid), "--format", "raw", "--threads", "--nonblocking",
        "--rate", str(SAMPLES_PER_SECOND), "--output", stacks,
    ]  # fmt: skip
    sampler = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        sampler.send_signal(2)
        sampler.wait()


def hot_spots(stacks: Path) -> list[str]:
    """The functions that took most: their own share and that with all they called, of the samples."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] for frame in stack.split(";")]
        alone[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    total = max(alone.total(), 1)
    return ["     self    all"] + [
        f"  {count / total:6.1%} {within[frame] / total:6.1%}  {frame})" for frame, count in alone.most_common(SHOWN)
    ]
