"""The collector's own account: what was seen, what was not and why. It must balance.

    bytes the kernel says were sent or received  =  bytes seen + bytes not seen, by reason
    requests begun                               =  spans handed to exporters + spans lost before, by reason
    spans handed to an exporter                  =  spans exported + spans lost there, by reason

Counting is a dict update on the one thread that owns the stage. Exporters keep accounts of their own, each with a lock,
because spans come in on one thread and go out on another.
"""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final


class Unseen(enum.StrEnum):
    """Why bytes that went over a traced connection were not seen."""

    BEYOND_BUDGET = "beyond_budget"
    RING_FULL = "ring_full"
    MUTED = "muted"
    """After the connection turned out to speak no known protocol, or became opaque (101, CONNECT)."""
    FILTERED = "filtered"
    SENDFILE = "sendfile"
    IO_URING = "io_uring"
    SYSCALL = "syscall"
    SEGMENTS = "segments"
    FAULT = "fault"
    TRUNC = "trunc"
    KERNEL_TLS = "kernel_tls"
    """Ciphertext where the kernel encrypts and decrypts for the application."""
    UNREAD = "unread"
    """Arrived, but the application never read them."""
    HOLE = "hole"
    """Skipped stream offsets that no counter of the kernel explains."""
    EVICTED = "evicted"
    """Of a connection whose place in a full table went to another."""


class Lost(enum.StrEnum):
    """Why a request that began did not become an exported span."""

    GAP_IN_HEAD = "gap_in_head"
    GAP_IN_BODY = "gap_in_body"
    JOINED_MIDWAY = "joined_midway"
    UNPARSABLE = "unparsable"
    EVICTED = "evicted"
    EARLY_DATA_REFUSED = "early_data_refused"
    """It went with the client's handshake, and the server did not take it there."""
    FILTERED = "filtered"
    SAMPLED_OUT = "sampled_out"
    SHUTDOWN = "shutdown"
    """Still open when the collector ended."""
    QUEUE_FULL = "queue_full"
    REJECTED = "rejected"
    """The backend refused it for good, or by partial success."""
    UNDELIVERED = "undelivered"
    """Still waiting for the backend when the collector ended."""


class Running:
    """Requests that are open together, wherever that is counted."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


NOWHERE: Final = Running()
Begin = Callable[[int, bool, int], Running]
"""Told of each request when it begins: its process, whether that one answers it, and how many microseconds its first
byte had lain in the socket when it was read (-1: not known). What it gives counts the request while it is open."""


class ByteAccount:
    """Bytes that went, both directions, and what became of them."""

    def __init__(self) -> None:
        self.kernel_bytes = 0
        """What the kernel says went over the traced connections, for those accounted for so far."""
        self.seen_bytes = 0
        self.unseen_bytes: Counter[Unseen] = Counter()

    def bytes_balance(self) -> int:
        """Kernel bytes that are in no column; 0 when the account is right."""
        return self.kernel_bytes - self.seen_bytes - self.unseen_bytes.total()


class Ledger(ByteAccount):
    """Counters of one pipeline. Exporters keep an `ExportAccount` each, registered here by name."""

    def __init__(self) -> None:
        super().__init__()
        self.tls = ByteAccount()
        """Plain text that went through TLS libraries; its ciphertext is in the account of its socket."""
        self.records: Counter[str] = Counter()
        """Records taken, by kind; `malformed` and `unknown` are kinds."""
        self.requests_begun = 0
        self.begin_request: Begin = lambda pid, serving, waited_us: NOWHERE
        self.spans_lost: Counter[Lost] = Counter()
        self.spans = 0
        """Handed to the exporters."""
        self.connections: Counter[str] = Counter()
        """By what became of them: opened, joined, refused, timed_out, unknown_protocol, opaque, resynced, …"""
        self.kernel_losses: dict[str, tuple[int, int]] = {}
        """The kernel's own loss counters: (events, bytes) by reason."""
        self.exports: dict[str, ExportAccount] = {}

    def requests_balance(self) -> int:
        """Requests begun that are in no column; 0 once every exchange has ended."""
        return self.requests_begun - self.spans - self.spans_lost.total()


class ExportAccount:
    """What one exporter did; written only by the exporter, with the lock held, so that it balances at every moment."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Take it to read several numbers that must agree."""
        self.accepted = 0
        """Spans handed to it."""
        self.exported = 0
        self.lost: Counter[Lost] = Counter()
        self.failures = 0
        """Attempts that failed and were tried again."""
        self.queued = 0
        """Spans waiting now."""
        self.queued_bytes = 0

    def balance(self) -> int:
        """Spans in no column; 0 when the account is right."""
        with self.lock:
            return self.accepted - self.exported - self.lost.total() - self.queued
