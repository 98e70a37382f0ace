"""The closing balance sheet: every byte and every request in exactly one line, and what is in none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otelbpf.telemetry.ledger import ByteAccount, ExportAccount, Ledger

_Line = tuple[str, int]
_LIBRARY = "written and read, says the library"


def balance_sheet(ledger: Ledger) -> str:
    """The account of a run, as text of several lines. The differences are 0 when the account is right."""
    lines = [
        "balance sheet",
        *_section("bytes of traced connections", _bytes(ledger, "sent and received, says the kernel")),
        *(_section("plain text of TLS sessions", _bytes(ledger.tls, _LIBRARY)) if ledger.tls.kernel_bytes else ()),
        *_section("requests", _requests(ledger)),
    ]
    for name, account in ledger.exports.items():
        lines += _section(f"spans given to {name}", _export(account))
    lines += _counts("records", ledger.records)
    lines += _counts("connections", ledger.connections)
    losses = {reason: events for reason, (events, _) in ledger.kernel_losses.items()}
    lines += _counts("left out by the probes, events", losses)
    lost_bytes = {reason: count for reason, (_, count) in ledger.kernel_losses.items()}
    lines += _counts("left out by the probes, bytes", lost_bytes)
    return "\n".join(lines)


def _bytes(ledger: ByteAccount, whole: str) -> Iterator[_Line]:
    yield whole, ledger.kernel_bytes
    yield "seen", ledger.seen_bytes
    for reason, count in sorted(ledger.unseen_bytes.items()):
        if count:
            yield f"not seen: {reason}", count
    yield "difference", ledger.bytes_balance()


def _requests(ledger: Ledger) -> Iterator[_Line]:
    yield "begun", ledger.requests_begun
    yield "spans", ledger.spans
    for reason, count in sorted(ledger.spans_lost.items()):
        if count:
            yield f"lost: {reason}", count
    yield "difference", ledger.requests_balance()


def _export(account: ExportAccount) -> Iterator[_Line]:
    yield "accepted", account.accepted
    yield "exported", account.exported
    for reason, count in sorted(account.lost.items()):
        if count:
            yield f"lost: {reason}", count
    if account.queued:
        yield "still queued", account.queued
    yield "difference", account.balance()
    if account.failures:
        yield "attempts that failed and were repeated", account.failures


def _section(title: str, rows: Iterator[_Line]) -> Iterator[str]:
    yield f"  {title}"
    for name, count in rows:
        yield f"    {name:<40}{count:>20,}"


def _counts(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
    if told:
        yield f"  {title}: {told}"
