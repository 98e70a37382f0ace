"""The queue before every exporter: bounded in bytes, one thread, and an account that balances at every moment.

Spans wait here as encoded bytes: about a fifth of the memory that the objects take, nothing for the garbage collector
to walk, and their size is known exactly. While the other side is away they wait; when there is no more room, the oldest
that are not on their way are dropped and counted; when it returns, export goes on. A batch that failed goes back to the
head of the queue, so order is kept and an outage of any length costs only what had no room.

Whatever happens to a span happens under the account's lock: accepted = exported + lost + queued, where a batch on its
way counts as queued until its fate is known. Delivery is at least once: an answer that got lost looks like a failure.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from otelbpf.exporters.base import Delivered, Encoder, Outcome, Refused, Sender, TooLarge, Unavailable
from otelbpf.exporters.group import Group
from otelbpf.telemetry.ledger import ExportAccount, Lost
from otelbpf.telemetry.log import RateLimited, logger
from otelbpf.tracing.span import Span

SPAN_OVERHEAD_BYTES = 48
"""What a waiting span takes beside its bytes: the header of a bytes object and its place in a list."""

LONGEST_REQUESTED_WAIT_SECONDS = 300.0
"""A backend may ask for patience, but not for ever."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much waits, how much goes at once, and when."""

    queue_bytes: int
    queue_spans: int | None = None
    """Besides the bytes, when somebody asks for it (OTEL_BSP_MAX_QUEUE_SIZE)."""
    batch_spans: int = 4096
    batch_bytes: int = 1_000_000
    """Below what receivers take by default: 4 MiB a gRPC message, 1 MiB a request at an nginx before them."""
    delay_seconds: float = 1.0
    """How long a span waits for others to go with."""
    attempt_seconds: float = 10.0
    first_backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 10.0
    patience_seconds: float = 0.0
    """How long `export` waits for room while nothing moves, before the oldest spans are dropped. 0 for live sources:
    there, waiting would only move the loss into the kernel's ring."""


class QueuedExporter:
    """An exporter made of an encoder and a sender."""

    def __init__(
        self,
        name: str,
        *,
        destination: str,
        encoder: Encoder,
        sender: Sender,
        account: ExportAccount,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2),
    ) -> None:
        self.name = name
        self.account = account
        self._encoder = encoder
        self._sender = sender
        self._limits = limits
        self._batch_spans = min(limits.batch_spans, limits.queue_spans or limits.batch_spans)
        self._most_batch_bytes = self._batch_bytes = min(limits.batch_bytes, max(limits.queue_bytes // 2, 1))
        self._clock = clock
        self._jitter = jitter

        self._changed = threading.Condition(account.lock)
        """Spans came or went, a flush or the end was asked for: whoever waits looks again."""
        self._waiting: deque[Group] = deque()
        self._flying: list[Group] = []
        self._due = 0.0
        """When the oldest waiting span has waited long enough."""
        self._retry_at = 0.0
        self._failures_in_row = 0
        self._dropped_untold = 0
        """Dropped since the thread last said so: standard error may block, and the pipeline must not."""
        self._impatient = False
        """Patience ran out, and nothing has moved since: `export` waits no more until something does."""
        self._flush_until = 0
        """Flushing until so many spans are settled."""
        self._end_by: float | None = None
        """Set once shutdown has begun."""
        self._ended = False

        log = self._log = logger(exporter=name, to=destination)
        self._unavailable, self._refused, self._full = RateLimited(log), RateLimited(log), RateLimited(log)
        self._thread = threading.Thread(target=self._run, name=f"otelbpf-export-{name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        account = self.account
        return f"QueuedExporter({self.name!r}, queued={account.queued}, exported={account.exported})"

    # The pipeline's side

    def export(self, spans: Sequence[Span]) -> None:
        """Take these spans."""
        groups = self._encoder.encode(spans)
        if not self._limits.patience_seconds:
            self._take(groups)
            return
        for group in groups:
            for piece in self._pieces(group):
                self._take([piece])

    def _pieces(self, group: Group) -> Iterator[Group]:
        """The group in pieces of at most half a queue: what is larger has no room, however long one waits."""
        if len(group.spans) > 1 and self._is_over(2 * len(group.spans), 2 * _cost(group)):
            yield from self._pieces(group.split(len(group.spans) // 2))
            yield from self._pieces(group)
        else:
            yield group

    def _take(self, groups: Sequence[Group]) -> None:
        count = sum([len(group.spans) for group in groups])
        size_bytes = sum([_cost(group) for group in groups])
        account = self.account
        with self._changed:
            if self._limits.patience_seconds and not self._impatient:
                self._wait_for_room(count, size_bytes)
            account.accepted += count
            if self._end_by is not None:
                self._lose(Lost.UNDELIVERED, count)
                return
            if not self._waiting:
                self._due = self._clock() + self._limits.delay_seconds
                self._changed.notify_all()
            self._waiting.extend(groups)
            account.queued += count
            account.queued_bytes += size_bytes
            self._drop_oldest()
            if self._is_batch_full():
                self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> None:
        """Send without waiting for more, until what was accepted so far is settled or the time is up."""
        end = self._clock() + timeout_seconds
        with self._changed:
            target = self.account.accepted
            self._hurry()
            while self._settled() < target and not self._ended and (left := end - self._clock()) > 0:
                self._changed.wait(left)

    def shutdown(self, timeout_seconds: float) -> None:
        """Deliver for so long, then count what is left as undelivered."""
        with self._changed:
            if self._ended:
                return
            if self._end_by is None:
                self._end_by = self._clock() + timeout_seconds
                # Once more at once, whatever the wait was for, and then at the shortest intervals: there is no later.
                self._retry_at = 0.0
                self._failures_in_row = 0
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        self._give_up()

    def _give_up(self) -> None:
        """Count what is left as undelivered, unless the thread has come to its end."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            left = self._forget([*self._flying, *self._waiting])
            self._flying = []
            self._waiting.clear()
            self._lose(Lost.UNDELIVERED, left)
            self._changed.notify_all()
        if left:
            self._log.warning("exporter.undelivered", spans=left)
        self._sender.close()

    def _settled(self) -> int:
        return self.account.accepted - self.account.queued

    def _hurry(self) -> None:
        """Let what was accepted so far go without waiting for more."""
        self._flush_until = self.account.accepted
        self._changed.notify_all()

    def _is_batch_full(self) -> bool:
        return self.account.queued >= self._batch_spans or self.account.queued_bytes >= self._batch_bytes

    def _is_over(self, spans: int, size_bytes: int) -> bool:
        limits = self._limits
        return size_bytes > limits.queue_bytes or (limits.queue_spans is not None and spans > limits.queue_spans)

    def _drop_oldest(self) -> None:
        """Make room, oldest first."""
        account, dropped = self.account, 0
        while self._waiting and self._is_over(account.queued, account.queued_bytes):
            oldest = self._waiting[0]
            count = self._excess(oldest)
            dropped += self._forget([self._waiting.popleft() if count == len(oldest.spans) else oldest.split(count)])
        if dropped:
            self._lose(Lost.QUEUE_FULL, dropped)
            self._dropped_untold += dropped
            self._changed.notify_all()

    def _excess(self, oldest: Group) -> int:
        """How many of this group's first spans have to go."""
        spans, size_bytes = self.account.queued, self.account.queued_bytes
        if self._is_over(spans - len(oldest.spans), size_bytes - _cost(oldest)):
            return len(oldest.spans)
        count = 0
        while self._is_over(spans - count, size_bytes):
            size_bytes -= len(oldest.spans[count]) + SPAN_OVERHEAD_BYTES
            count += 1
        return count

    def _wait_for_room(self, spans: int, size_bytes: int) -> None:
        """Wait until these fit, as long as something moves at least every `patience_seconds`."""
        account, settled = self.account, self._settled()
        end = self._clock() + self._limits.patience_seconds
        while account.queued and self._is_over(account.queued + spans, account.queued_bytes + size_bytes):
            self._hurry()
            if self._settled() != settled:
                settled, end = self._settled(), self._clock() + self._limits.patience_seconds
            left = end - self._clock()
            self._impatient = left <= 0
            if self._impatient or self._end_by is not None:
                return
            self._changed.wait(left)

    def _forget(self, groups: Sequence[Group]) -> int:
        """These are no longer queued; returns how many spans they were."""
        count = sum([len(group.spans) for group in groups])
        self.account.queued -= count
        self.account.queued_bytes -= sum([_cost(group) for group in groups])
        return count

    def _lose(self, reason: Lost, count: int) -> None:
        if count:
            self.account.lost[reason] += count

    # The thread's side

    def _run(self) -> None:
        while batch := self._take_batch():
            payload = self._encoder.assemble(batch)
            self._settle(batch, self._attempt(payload))
            self._tell_drops()

    def _attempt(self, payload: bytes) -> Outcome:
        timeout_seconds = self._limits.attempt_seconds
        if self._end_by is not None:
            timeout_seconds = min(timeout_seconds, max(self._end_by - self._clock(), 0.01))
        try:
            return self._sender.send(payload, timeout_seconds)
        except Exception as error:  # noqa: BLE001
            # Transports are strangers' code. Whatever they raise is a failed attempt: told, counted and tried again,
            # because a thread that dies here would end the export for good.
            return Unavailable(f"{type(error).__name__}: {error}")

    def _take_batch(self) -> list[Group]:
        """Wait until a batch is to go and take it; nothing when this is the end. Tells meanwhile what was dropped."""
        while True:
            with self._changed:
                if self._end_by is not None and (not self._waiting or self._clock() >= self._end_by):
                    return []
                wait_seconds = self._wait_seconds()
                if wait_seconds is not None and wait_seconds <= 0:
                    self._flying = self._next_batch()
                    self._due = self._clock() + self._limits.delay_seconds
                    return self._flying
                if not self._dropped_untold:
                    self._changed.wait(wait_seconds)
            self._tell_drops()

    def _tell_drops(self) -> None:
        with self._changed:
            dropped, self._dropped_untold = self._dropped_untold, 0
            dropped_in_all = self.account.lost[Lost.QUEUE_FULL]
        if dropped:
            self._full.warn("exporter.queue_full", dropped=dropped, dropped_in_all=dropped_in_all)

    def _wait_seconds(self) -> float | None:
        """How long until a batch is to go; None until something changes."""
        if not self._waiting:
            return None
        now = self._clock()
        in_a_hurry = self._end_by is not None or self._settled() < self._flush_until or self._is_batch_full()
        wait_seconds = max(self._retry_at - now, 0.0 if in_a_hurry else self._due - now)
        return wait_seconds if self._end_by is None else min(wait_seconds, self._end_by - now)

    def _next_batch(self) -> list[Group]:
        batch: list[Group] = []
        spans, size_bytes = self._batch_spans, self._batch_bytes
        while self._waiting and spans > 0:
            oldest = self._waiting[0]
            if len(oldest.spans) <= spans and oldest.size_bytes <= size_bytes:
                self._waiting.popleft()
            else:
                count = _fitting(oldest, spans, size_bytes)
                if count == 0 and batch:
                    break
                # A span that is larger than a batch goes alone.
                count = max(count, 1)
                oldest = self._waiting.popleft() if count == len(oldest.spans) else oldest.split(count)
            batch.append(oldest)
            spans -= len(oldest.spans)
            size_bytes -= oldest.size_bytes
        return batch

    def _settle(self, batch: list[Group], outcome: Outcome) -> None:
        """Book and tell what became of the batch on its way."""
        count = sum([len(group.spans) for group in batch])
        with self._changed:
            if self._ended:
                # Shutdown did not wait for this answer and has counted the batch as undelivered.
                return
            self._flying = []
            if isinstance(outcome, TooLarge) and count == 1:
                outcome = Refused(outcome.reason)
            match outcome:
                case Unavailable():
                    self._put_back(batch)
                    self._back_off(outcome.after_seconds)
                case TooLarge():
                    self._put_back(batch)
                    self._batch_bytes = max(sum([group.size_bytes for group in batch]) // 2, 1)
                case Refused():
                    self._book(batch, rejected=count)
                case Delivered():
                    self._book(batch, rejected=min(max(outcome.rejected, 0), count))
            waiting, next_try_seconds = self.account.queued, round(self._retry_at - self._clock(), 1)
            self._changed.notify_all()
        match outcome:
            case Unavailable(reason):
                self._unavailable.warn(
                    "exporter.unavailable", reason=reason, waiting=waiting, next_try_seconds=next_try_seconds
                )
            case TooLarge(reason):
                self._refused.warn("exporter.batch_too_large", reason=reason, spans=count)
            case Refused(reason):
                self._refused.warn("exporter.rejected", reason=reason, spans=count)
            case Delivered(rejected, reason):
                self._unavailable.recovered("exporter.recovered", waiting=waiting)
                if rejected or reason:
                    self._refused.warn("exporter.partly_rejected", reason=reason, spans=rejected, of=count)

    def _put_back(self, batch: list[Group]) -> None:
        """To the head of the queue for another attempt."""
        self.account.failures += 1
        self._waiting.extendleft(reversed(batch))
        self._due = 0.0

    def _back_off(self, asked_seconds: float | None) -> None:
        """Wait as long as the other side asked for; twice as long as the last time when it did not say."""
        if asked_seconds:
            wait_seconds = min(asked_seconds, LONGEST_REQUESTED_WAIT_SECONDS)
        else:
            doubled = self._limits.first_backoff_seconds * 2 ** min(self._failures_in_row, 30)
            wait_seconds = min(doubled, self._limits.longest_backoff_seconds) * self._jitter()
        self._failures_in_row += 1
        self._retry_at = self._clock() + wait_seconds

    def _book(self, batch: list[Group], *, rejected: int) -> None:
        """The other side has answered for these."""
        count = self._forget(batch)
        self._impatient = False
        self.account.exported += count - rejected
        self._lose(Lost.REJECTED, rejected)
        self._failures_in_row = 0
        self._retry_at = 0.0
        # After a batch that was too large, feel the way back up.
        self._batch_bytes = min(self._batch_bytes + self._batch_bytes // 16 + 1, self._most_batch_bytes)


def _cost(group: Group) -> int:
    return group.size_bytes + SPAN_OVERHEAD_BYTES * len(group.spans)


def _fitting(group: Group, spans: int, size_bytes: int) -> int:
    """How many of the group's first spans are within both bounds."""
    for count, span in enumerate(group.spans[:spans]):
        size_bytes -= len(span)
        if size_bytes < 0:
            return count
    return min(spans, len(group.spans))
