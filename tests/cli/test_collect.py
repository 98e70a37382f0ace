"""The loop: everything is taken, the duration is kept, the end is orderly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otelbpf.cli.collect import collect
from otelbpf.cli.filters import matcher
from otelbpf.events.types import Identity
from tests.fake_kernel import FakeSource


class _Source(FakeSource):
    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.stopped_at: float | None = None
        self._clock = clock

    def batches(self) -> Iterator[Sequence[bytes]]:
        number = 0
        while self.stopped_at is None:
            self._clock[0] += 1.0
            number += 1
            yield [b"%d" % number] if number % 2 else []
        yield [b"last"]

    def stop(self) -> None:
        assert self.stopped_at is None, "stopped twice"
        self.stopped_at = self._clock[0]


def test_it_stops_when_the_time_is_over_and_takes_what_is_left() -> None:
    clock = [100.0]
    source = _Source(clock)
    taken: list[list[bytes]] = []

    collect(
        source,
        take=lambda records: taken.append(list(records)),
        stop=source.stop,
        duration_seconds=3.0,
        monotonic=lambda: clock[0],
    )

    assert source.stopped_at == 103.0
    assert taken == [[b"1"], [], [b"3"], [b"last"]]


def test_processes_are_matched_by_globs_on_their_executables() -> None:
    matches = matcher(["*/nginx", "/usr/bin/python3*"])

    assert matches is not None
    assert [
        matches(Identity(pid=1, executable=path)) for path in ("/usr/sbin/nginx", "/usr/bin/python3.11", "nginx")
    ] == [
        True,
        True,
        False,
    ]
    assert matcher(()) is None
