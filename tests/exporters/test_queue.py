"""The queue's account balances at every moment, and every span ends in exactly the right column."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbpf.exporters.base import Delivered, Outcome, Refused, TooLarge, Unavailable
from otelbpf.exporters.encode import ProtobufEncoder
from otelbpf.exporters.queue import SPAN_OVERHEAD_BYTES, Limits, QueuedExporter
from otelbpf.telemetry.ledger import ExportAccount, Lost
from otelbpf.values import replace
from tests.exporters.conftest import Words
from tests.exporters.sample import VERSION, made, numbers

SPAN_BYTES = ProtobufEncoder(version=VERSION).encode(made(1))[0].size_bytes
SPAN_COST = SPAN_BYTES + SPAN_OVERHEAD_BYTES
"""What each of the sample's spans counts for in a queue."""

LIMITS = Limits(
    queue_bytes=1 << 20, delay_seconds=0.0, first_backoff_seconds=0.01, longest_backoff_seconds=0.02, attempt_seconds=5
)


class Backend:
    """The other side of the byte boundary: answers by a script, then with success; remembers what it kept."""

    def __init__(self, *script: Outcome | Exception | Callable[[list[int]], Outcome]) -> None:
        self.script = list(script)
        self.attempts: list[list[int]] = []
        self.kept: list[int] = []
        self.timeouts: list[float] = []
        self.closed = 0
        self.attempted = threading.Semaphore(0)

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        batch = numbers(ExportTraceServiceRequest.FromString(payload))
        self.attempts.append(batch)
        self.timeouts.append(timeout_seconds)
        self.attempted.release()
        answer = self.script.pop(0) if self.script else Delivered()
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, Delivered | Refused | TooLarge | Unavailable):
            answer = answer(batch)
        if isinstance(answer, Delivered):
            self.kept += batch
        return answer

    def close(self) -> None:
        self.closed += 1


def _exporter(backend: Backend, **changes: Any) -> QueuedExporter:
    return QueuedExporter(
        "otlp",
        destination="http://collector:4318",
        encoder=ProtobufEncoder(version=VERSION),
        sender=backend,
        account=ExportAccount(),
        limits=msgspec.structs.replace(LIMITS, **changes),
        jitter=lambda: 1.0,
    )


def _columns(account: ExportAccount) -> tuple[int, int, dict[Lost, int], int, int]:
    with account.lock:
        assert account.balance() == 0
        return account.accepted, account.exported, dict(account.lost), account.queued, account.queued_bytes


def _await(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.002)


def test_everything_arrives_in_order_and_once(words: Words) -> None:
    backend = Backend()
    exporter = _exporter(backend)
    for begin in range(0, 2300, 23):
        exporter.export(made(23, begin=begin))
    exporter.flush(10)

    assert backend.kept == list(range(2300))
    assert _columns(exporter.account) == (2300, 2300, {}, 0, 0)
    exporter.shutdown(5)
    assert (backend.closed, words.lines()) == (1, [])


def test_nothing_to_export_is_nothing() -> None:
    backend = Backend()
    exporter = _exporter(backend)
    exporter.export([])
    exporter.flush(1)
    exporter.shutdown(1)

    assert backend.attempts == []
    assert _columns(exporter.account) == (0, 0, {}, 0, 0)


def test_batches_wait_for_their_number_or_their_time() -> None:
    backend = Backend()
    exporter = _exporter(backend, batch_spans=10, delay_seconds=60.0)
    exporter.export(made(9))
    assert not backend.attempted.acquire(timeout=0.05)
    exporter.export(made(14, begin=9))
    _await(lambda: exporter.account.exported == 20)
    assert backend.attempts == [list(range(10)), list(range(10, 20))]
    exporter.shutdown(5)

    assert backend.attempts[2:] == [[20, 21, 22]]
    assert _columns(exporter.account) == (23, 23, {}, 0, 0)


def test_batches_go_after_the_delay() -> None:
    backend = Backend()
    exporter = _exporter(backend, delay_seconds=0.05)
    begin = time.monotonic()
    exporter.export(made(3))
    _await(lambda: exporter.account.exported == 3)

    assert 0.05 <= time.monotonic() - begin < 5
    exporter.shutdown(5)


def test_batches_are_bounded_in_bytes_and_a_large_span_goes_alone() -> None:
    backend = Backend()
    exporter = _exporter(backend, batch_bytes=3 * SPAN_BYTES, delay_seconds=60.0)
    spans = made(7)
    spans[4] = replace(spans[4], attributes=(("key", "x" * 10_000),))
    exporter.export(spans)
    exporter.flush(10)

    assert backend.attempts == [[0, 1, 2], [3], [4], [5, 6]]
    exporter.shutdown(5)


def test_an_outage_costs_nothing_as_long_as_there_is_room(words: Words) -> None:
    backend = Backend(*[Unavailable("connection refused")] * 5)
    exporter = _exporter(backend)
    exporter.export(made(23))
    exporter.flush(10)
    exporter.shutdown(5)

    assert backend.attempts == [list(range(23))] * 6
    assert _columns(exporter.account) == (23, 23, {}, 0, 0)
    assert exporter.account.failures == 5
    first, second = words.lines()
    assert (first["event"], first["reason"], first["to"]) == (
        "exporter.unavailable",
        "connection refused",
        "http://collector:4318",
    )
    assert (second["event"], second["times_not_shown"]) == ("exporter.recovered", 4)


def test_a_full_queue_drops_the_oldest_and_counts_them(words: Words) -> None:
    """Room for exactly ten spans; the backend is away."""
    down = threading.Event()
    backend = Backend(*[lambda batch: Delivered() if down.is_set() else Unavailable("away")] * 1000)
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST + SPAN_COST - 1)
    exporter.export(made(4))
    _await(lambda: exporter.account.failures > 0)
    for number in range(4, 23):
        exporter.export(made(1, begin=number))
        _columns(exporter.account)
    _await(lambda: exporter.account.queued == 10)
    queued_bytes = exporter.account.queued_bytes
    down.set()
    exporter.flush(10)
    exporter.shutdown(5)

    assert queued_bytes == 10 * SPAN_COST
    assert len(backend.kept) == 10
    assert _columns(exporter.account) == (23, 10, {Lost.QUEUE_FULL: 13}, 0, 0)
    assert "exporter.queue_full" in words.events()


def test_dropping_starts_behind_the_batch_on_its_way() -> None:
    """What may have arrived already is not counted as lost."""
    go = threading.Event()

    def hold(_batch: list[int]) -> Outcome:
        assert go.wait(10)
        return Delivered()

    backend = Backend(hold)
    exporter = _exporter(backend, queue_bytes=5 * SPAN_COST, batch_spans=2)
    exporter.export(made(2))
    assert backend.attempted.acquire(timeout=10)
    for number in range(2, 13):
        exporter.export(made(1, begin=number))
        assert _columns(exporter.account)[3] == min(number + 1, 5)
    assert _columns(exporter.account) == (13, 0, {Lost.QUEUE_FULL: 8}, 5, 5 * SPAN_COST)
    go.set()
    exporter.flush(10)
    exporter.shutdown(5)

    assert backend.kept == [0, 1, 10, 11, 12]
    assert _columns(exporter.account) == (13, 5, {Lost.QUEUE_FULL: 8}, 0, 0)


def test_a_flush_larger_than_the_queue_keeps_its_newest() -> None:
    backend = Backend()
    exporter = _exporter(backend, queue_bytes=600 * SPAN_COST, delay_seconds=60.0)
    exporter.export(made(1301))

    exporter.shutdown(5)
    assert sorted(backend.kept) == list(range(701, 1301))
    assert _columns(exporter.account) == (1301, 600, {Lost.QUEUE_FULL: 701}, 0, 0)


def test_a_bound_in_spans_holds_besides() -> None:
    backend = Backend()
    exporter = _exporter(backend, queue_spans=7, batch_spans=512, delay_seconds=60.0)
    exporter.export(made(5))
    exporter.flush(10)
    exporter.export(made(11, begin=5))
    exporter.shutdown(5)

    assert backend.kept == [0, 1, 2, 3, 4, *range(9, 16)]
    assert _columns(exporter.account) == (16, 12, {Lost.QUEUE_FULL: 4}, 0, 0)


def test_what_is_refused_for_good_is_counted_and_not_tried_again(words: Words) -> None:
    backend = Backend(Refused("HTTP 400 Bad Request"))
    exporter = _exporter(backend)
    exporter.export(made(23))
    exporter.flush(10)
    exporter.export(made(2, begin=23))
    exporter.shutdown(5)

    assert backend.attempts == [list(range(23)), [23, 24]]
    assert _columns(exporter.account) == (25, 2, {Lost.REJECTED: 23}, 0, 0)
    assert [(line["event"], line["spans"]) for line in words.lines()] == [("exporter.rejected", 23)]


@pytest.mark.parametrize(("claimed", "rejected"), [(0, 0), (7, 7), (23, 23), (24, 23), (-3, 0), (1 << 62, 23)])
def test_partial_success_counts_what_was_not_kept(claimed: int, rejected: int) -> None:
    """No more than the batch, whatever the backend claims."""
    backend = Backend(Delivered(rejected=claimed, reason="bad span"))
    exporter = _exporter(backend)
    exporter.export(made(23))
    exporter.shutdown(5)

    lost = {Lost.REJECTED: rejected} if rejected else {}
    assert _columns(exporter.account) == (23, 23 - rejected, lost, 0, 0)


def test_a_batch_that_is_too_large_is_halved_until_it_fits(words: Words) -> None:
    def at_most_three(batch: list[int]) -> Outcome:
        return Delivered() if len(batch) <= 3 else TooLarge("HTTP 413")

    backend = Backend(*[at_most_three] * 100)
    exporter = _exporter(backend, delay_seconds=60.0)
    exporter.export(made(23))
    exporter.shutdown(5)

    assert sorted(backend.kept) == list(range(23))
    assert max(map(len, backend.attempts)) == 23
    assert _columns(exporter.account) == (23, 23, {}, 0, 0)
    assert words.events() == ["exporter.batch_too_large"]


def test_batches_grow_again_after_one_was_too_large() -> None:
    backend = Backend(TooLarge("HTTP 413"))
    exporter = _exporter(backend, batch_bytes=64 * SPAN_BYTES, delay_seconds=60.0)
    exporter.export(made(2300))
    exporter.shutdown(10)

    sizes = [len(batch) for batch in backend.attempts]
    assert sizes[:3] == [64, 32, 34]
    assert sizes[3:-1] == sorted(sizes[3:-1])
    assert sizes[-2] == 64
    assert backend.kept == list(range(2300))


def test_a_span_that_is_too_large_alone_is_rejected_alone() -> None:
    def not_the_fifth(batch: list[int]) -> Outcome:
        return TooLarge("HTTP 413") if 5 in batch else Delivered()

    backend = Backend(*[not_the_fifth] * 100)
    exporter = _exporter(backend, delay_seconds=60.0)
    exporter.export(made(23))
    exporter.shutdown(5)

    assert sorted(backend.kept) == [*range(5), *range(6, 23)]
    assert _columns(exporter.account) == (23, 22, {Lost.REJECTED: 1}, 0, 0)


def test_another_attempt_waits_for_no_more_spans() -> None:
    """The batch has waited for others once; when it failed, it waits as long as the backoff says."""
    times: list[float] = []

    def away(_batch: list[int]) -> Outcome:
        times.append(time.monotonic())
        return Unavailable("away") if len(times) == 1 else Delivered()

    exporter = _exporter(Backend(away, away), delay_seconds=1.0)
    exporter.export(made(1))
    _await(lambda: exporter.account.exported == 1)

    assert times[1] - times[0] < 0.9
    exporter.shutdown(5)


def test_a_transport_that_raises_is_a_failed_attempt(words: Words) -> None:
    backend = Backend(ValueError("metadata was invalid"), RuntimeError("\x1b[31mboom"))
    exporter = _exporter(backend)
    exporter.export(made(23))
    exporter.shutdown(5)

    assert _columns(exporter.account) == (23, 23, {}, 0, 0)
    assert exporter.account.failures == 2
    assert words.lines()[0]["reason"] == "ValueError: metadata was invalid"


def test_waits_double_up_to_a_bound_and_begin_anew_after_success() -> None:
    clock = [0.0]
    exporter = _exporter(Backend(), first_backoff_seconds=1.0, longest_backoff_seconds=5.0, delay_seconds=60.0)
    exporter._clock = lambda: clock[0]  # the waits themselves are not waited for here

    waits = []
    for asked in (None, None, None, None, 0.0, 7.5, 1e12, None):
        exporter._back_off(asked)
        waits.append(exporter._retry_at)
    exporter._book([], rejected=0)
    exporter._back_off(None)
    waits.append(exporter._retry_at)

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 7.5, 300.0, 5.0, 1.0]
    exporter.shutdown(1)


def test_a_wait_that_was_asked_for_is_waited() -> None:
    backend = Backend(Unavailable("HTTP 429", after_seconds=0.3))
    exporter = _exporter(backend)
    begin = time.monotonic()
    exporter.export(made(23))
    exporter.flush(10)

    assert 0.3 <= time.monotonic() - begin < 5
    assert len(backend.attempts) == 2
    exporter.shutdown(5)


def test_shutdown_tries_once_more_at_once_and_counts_what_is_left(words: Words) -> None:
    backend = Backend(*[Unavailable("away", after_seconds=200.0)] * 10)
    exporter = _exporter(backend)
    exporter.export(made(23))
    assert backend.attempted.acquire(timeout=10)
    begin = time.monotonic()
    exporter.shutdown(0.3)

    assert 0.25 < time.monotonic() - begin < 5
    assert len(backend.attempts) == 2
    assert _columns(exporter.account) == (23, 0, {Lost.UNDELIVERED: 23}, 0, 0)
    assert words.events() == ["exporter.unavailable", "exporter.undelivered"]
    exporter.shutdown(5)
    exporter.export(made(2, begin=23))
    assert _columns(exporter.account) == (25, 0, {Lost.UNDELIVERED: 25}, 0, 0)
    assert backend.closed == 1


def test_an_attempt_has_no_longer_than_shutdown_has() -> None:
    backend = Backend()
    exporter = _exporter(backend, delay_seconds=60.0)
    exporter.export(made(1))
    exporter.shutdown(0.5)

    assert 0 < backend.timeouts[0] <= 0.5


def test_an_answer_after_the_end_changes_nothing() -> None:
    """The batch was counted as undelivered when the time was up; a late success must not count it twice."""
    go = threading.Event()

    def hang(_batch: list[int]) -> Outcome:
        assert go.wait(10)
        return Delivered()

    backend = Backend(hang)
    exporter = _exporter(backend, batch_spans=20)
    exporter.export(made(23))
    assert backend.attempted.acquire(timeout=10)
    begin = time.monotonic()
    exporter.shutdown(0.1)
    assert time.monotonic() - begin < 5
    assert _columns(exporter.account) == (23, 0, {Lost.UNDELIVERED: 23}, 0, 0)
    go.set()
    exporter._thread.join(10)

    assert not exporter._thread.is_alive()
    assert _columns(exporter.account) == (23, 0, {Lost.UNDELIVERED: 23}, 0, 0)


def test_flush_gives_up_in_time() -> None:
    backend = Backend(*[Unavailable("away")] * 1000)
    exporter = _exporter(backend)
    exporter.export(made(23))
    begin = time.monotonic()
    exporter.flush(0.1)

    assert 0.1 <= time.monotonic() - begin < 5
    assert _columns(exporter.account)[3] == 23
    exporter.shutdown(0.05)


def test_with_patience_nothing_is_dropped() -> None:
    """The source can wait: room for ten spans, and a backend that takes its time and fails now and then."""

    def slow(batch: list[int]) -> Outcome:
        time.sleep(0.002)
        return Unavailable("busy") if len(backend.attempts) % 7 == 0 else Delivered()

    backend = Backend(*[slow] * 10_000)
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST, batch_spans=4, delay_seconds=60.0, patience_seconds=10.0)
    for begin in range(0, 230, 3):
        exporter.export(made(3, begin=begin))
    exporter.shutdown(10)

    assert backend.kept == list(range(231))
    assert _columns(exporter.account) == (231, 231, {}, 0, 0)


@pytest.mark.parametrize("bound", [{"queue_bytes": 100 * SPAN_COST}, {"queue_spans": 100}])
def test_with_patience_a_flush_may_be_larger_than_the_queue(bound: dict[str, int]) -> None:
    backend = Backend()
    exporter = _exporter(backend, delay_seconds=60.0, patience_seconds=10.0, **bound)
    exporter.export(made(2300))
    exporter.shutdown(10)

    assert backend.kept == list(range(2300))
    assert _columns(exporter.account) == (2300, 2300, {}, 0, 0)


def test_who_waits_for_room_does_not_wait_for_the_batch_to_fill() -> None:
    backend = Backend()
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST, delay_seconds=60.0, patience_seconds=10.0)
    exporter.export(made(4))
    begin = time.monotonic()
    exporter.export(made(8, begin=4))
    assert time.monotonic() - begin < 5
    exporter.shutdown(5)

    assert _columns(exporter.account) == (12, 12, {}, 0, 0)


def test_patience_ends_when_nothing_moves() -> None:
    backend = Backend(*[Unavailable("away")] * 10_000)
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST, patience_seconds=0.1)
    exporter.export(made(10))
    begin = time.monotonic()
    exporter.export(made(3, begin=10))

    assert 0.1 <= time.monotonic() - begin < 5
    assert _columns(exporter.account)[:3] == (13, 0, {Lost.QUEUE_FULL: 3})
    exporter.shutdown(0.0)


def test_patience_that_ran_out_returns_when_something_moves() -> None:
    """A source is held up once by a backend that is away, not at every flush."""
    away = [True]
    backend = Backend(*[lambda _: Unavailable("away") if away[0] else Delivered()] * 10_000)
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST, patience_seconds=0.2)
    begin = time.monotonic()
    for number in range(0, 230, 10):
        exporter.export(made(10, begin=number))
    assert 0.2 <= time.monotonic() - begin < 2
    assert _columns(exporter.account)[:3] == (230, 0, {Lost.QUEUE_FULL: 220})
    away[0] = False
    exporter.flush(10)
    for number in range(230, 460, 10):
        exporter.export(made(10, begin=number))
    exporter.shutdown(10)

    assert backend.kept == list(range(220, 460))
    assert _columns(exporter.account) == (460, 240, {Lost.QUEUE_FULL: 220}, 0, 0)


def test_drops_are_told_by_the_exporter_s_own_thread(words: Words) -> None:
    """The pipeline's must not block where standard error does."""
    backend = Backend(*[Unavailable("away", after_seconds=100.0)] * 10)
    exporter = _exporter(backend, queue_bytes=10 * SPAN_COST)
    tellers: list[str] = []
    exporter._full.warn = lambda event, **fields: tellers.append(  # type: ignore[method-assign]
        f"{threading.current_thread().name} {event} {fields['dropped_in_all']}"
    )
    exporter.export(made(23))

    _await(lambda: tellers == ["otelbpf-export-otlp exporter.queue_full 13"])
    exporter.shutdown(0.0)


_answers = st.sampled_from(
    [
        Delivered(),
        Delivered(rejected=1),
        Refused("no"),
        TooLarge("too large"),
        Unavailable("away"),
        Unavailable("wait", after_seconds=0.001),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flushes=st.lists(st.integers(1, 40), min_size=1, max_size=25),
    answers=st.lists(_answers, max_size=40),
    queue_spans=st.integers(1, 60),
    batch_spans=st.integers(1, 30),
    end_seconds=st.sampled_from((0.0, 0.01, 5.0)),
)
def test_law_the_account_balances_at_every_moment(
    flushes: Sequence[int], answers: Sequence[Outcome], queue_spans: int, batch_spans: int, end_seconds: float
) -> None:
    """Any flushes, any answers, any bounds, any end: watched all along, and equal to what the backend saw at last."""
    backend = Backend(*answers)
    exporter = _exporter(
        backend,
        queue_bytes=queue_spans * SPAN_COST,
        batch_spans=batch_spans,
        first_backoff_seconds=0.0001,
        longest_backoff_seconds=0.001,
    )
    stop, wrong = threading.Event(), Counter[int]()

    def watch() -> None:
        while not stop.is_set():
            wrong[exporter.account.balance()] += 1
            time.sleep(0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    handed_over = 0
    for count in flushes:
        exporter.export(made(count, begin=handed_over))
        handed_over += count
    exporter.shutdown(end_seconds)
    stop.set()
    watcher.join()

    accepted, exported, lost, queued, queued_bytes = _columns(exporter.account)
    assert set(wrong) <= {0}
    assert (accepted, queued, queued_bytes) == (handed_over, 0, 0)
    assert accepted == exported + sum(lost.values())
    exporter._thread.join(10)
    partly = sum([1 for answer in answers[: len(answers) - len(backend.script)] if answer == Delivered(rejected=1)])
    if Lost.UNDELIVERED not in lost:
        assert exported == len(backend.kept) - partly
    assert len(set(backend.kept)) == len(backend.kept)
    assert set(lost) <= {Lost.QUEUE_FULL, Lost.REJECTED, Lost.UNDELIVERED}
    assert all(lost.values())
