"""The balance sheet: every column, and nothing that is zero but the differences."""

from __future__ import annotations

from otelbpf.cli.balance import balance_sheet
from otelbpf.telemetry.ledger import ExportAccount, Ledger, Lost, Unseen


def test_every_column_stands_on_the_sheet() -> None:
    ledger = Ledger()
    ledger.kernel_bytes, ledger.seen_bytes = 1_234_567, 1_000_000
    ledger.unseen_bytes.update({Unseen.BEYOND_BUDGET: 234_000, Unseen.RING_FULL: 560, Unseen.MUTED: 0})
    ledger.requests_begun, ledger.spans = 23, 20
    ledger.spans_lost.update({Lost.GAP_IN_HEAD: 2})
    ledger.records.update(data=46, clock=1)
    ledger.connections.update(opened=5, refused=0)
    ledger.kernel_losses = {"ring_full_data": (3, 560), "own": (0, 0)}
    account = ExportAccount()
    account.accepted, account.exported, account.queued, account.failures = 20, 11, 5, 7
    account.lost[Lost.QUEUE_FULL] = 3
    ledger.exports["otlp"] = account

    assert balance_sheet(ledger) == "\n".join(
        [
            "balance sheet",
            "  bytes of traced connections",
            "    sent and received, says the kernel                 1,234,567",
            "    seen                                               1,000,000",
            "    not seen: beyond_budget                              234,000",
            "    not seen: ring_full                                      560",
            "    difference                                                 7",
            "  requests",
            "    begun                                                     23",
            "    spans                                                     20",
            "    lost: gap_in_head                                          2",
            "    difference                                                 1",
            "  spans given to otlp",
            "    accepted                                                  20",
            "    exported                                                  11",
            "    lost: queue_full                                           3",
            "    still queued                                               5",
            "    difference                                                 1",
            "    attempts that failed and were repeated                     7",
            "  records: clock 1, data 46",
            "  connections: opened 5",
            "  left out by the probes, events: ring_full_data 3",
            "  left out by the probes, bytes: ring_full_data 560",
        ]
    )


def test_plain_text_of_tls_has_an_account_of_its_own() -> None:
    ledger = Ledger()
    ledger.tls.kernel_bytes, ledger.tls.seen_bytes = 1000, 700
    ledger.tls.unseen_bytes[Unseen.BEYOND_BUDGET] = 300

    lines = balance_sheet(ledger).splitlines()
    begin = lines.index("  plain text of TLS sessions")
    assert lines[begin + 1 : begin + 5] == [
        "    written and read, says the library                     1,000",
        "    seen                                                     700",
        "    not seen: beyond_budget                                  300",
        "    difference                                                 0",
    ]
