"""What an exporter promises to the pipeline, and what its three parts promise to each other.

An exporter takes spans, keeps them in a bounded queue and delivers them on a thread of its own. An *encoder* turns
spans into bytes, a *sender* carries one batch of bytes and says what became of it; the queue between them owns every
decision about waiting, trying again and giving up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from otelbpf.exporters.group import Group
from otelbpf.telemetry.ledger import ExportAccount
from otelbpf.tracing.span import Span


class Exporter(Protocol):
    """Where spans go. Every span handed over ends in one column of `account`."""

    name: str
    """Unique within one run: `otlp`, `console`, `file:spans.jsonl`"""
    account: ExportAccount

    def export(self, spans: Sequence[Span]) -> None:
        """Take these spans. Never raises. Returns at once, unless the exporter was made to wait when it is full."""
        ...

    def flush(self, timeout_seconds: float) -> None:
        """Try to deliver what was handed over so far, and return when that is settled or the time is up."""
        ...

    def shutdown(self, timeout_seconds: float) -> None:
        """Deliver what can be delivered in this time, count the rest, let go of everything. Harmless when repeated."""
        ...


class Encoder(Protocol):
    """Spans as bytes. Used by two threads, one method each."""

    def encode(self, spans: Sequence[Span]) -> list[Group]:
        """Each span as bytes. Never raises, whatever strangers wrote into names and attributes."""
        ...

    def assemble(self, groups: Sequence[Group]) -> bytes:
        """One batch as it goes out."""
        ...


class Delivered(msgspec.Struct, frozen=True):
    """The batch arrived; the other side kept all but `rejected` spans of it."""

    rejected: int = 0
    reason: str = ""


class Refused(msgspec.Struct, frozen=True):
    """The other side will never take this batch."""

    reason: str


class TooLarge(msgspec.Struct, frozen=True):
    """The other side takes no batch of this size; a smaller one may pass."""

    reason: str


class Unavailable(msgspec.Struct, frozen=True):
    """Not now. `after_seconds` is what the other side asked for, None when it said nothing."""

    reason: str
    after_seconds: float | None = None


Outcome = Delivered | Refused | TooLarge | Unavailable


class Sender(Protocol):
    """Carries one batch at a time; knows nothing of queues and never waits to try again."""

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        """One attempt."""
        ...

    def close(self) -> None:
        """Let go of connections and files; a `send` on another thread ends soon where the transport allows it."""
        ...
