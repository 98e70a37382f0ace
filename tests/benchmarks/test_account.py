"""The account of a traced run: what is lost by name is no fault, what is lost without one is."""

from __future__ import annotations

import pytest

from benchmarks.account import Account, account
from benchmarks.sink import Counts
from integration.harness import balance

SHEET = """balance sheet
  bytes of traced connections
    sent and received, says the kernel                     1,000
    seen                                                   1,000
    difference                                                 0
  requests
    begun                                                     {begun}
    spans                                                     {spans}
    lost: gap_in_head                                          {lost}
    difference                                                 {difference}
  spans given to otlp
    accepted                                                  {spans}
    exported                                                  {exported}
    lost: queue_full                                           {dropped}
    difference                                                 0
  records: data 200
  left out by the probes, events: ring_full_data {ring_full}
"""


def run(*, served: int = 100, arrived: int = 100, told: int = 100, ends: int = 1, **numbers: int) -> Account:
    """An account of 100 requests, all of them spans, unless said otherwise."""
    usual = {"begun": 100, "spans": 100, "lost": 0, "difference": 0, "exported": 100, "dropped": 0, "ring_full": 0}
    sheet = balance.parse(SHEET.format(**usual | numbers))
    counts = Counts(requests=1, bytes=1, refused=0, server=arrived, client=0, internal=0, other=0)
    return account(
        made=100, served=served, sheet=sheet, metrics={"otelbpf_spans_total": told}, arrived=counts, ends=ends
    )


def test_every_request_a_span() -> None:
    """The usual case."""
    assert run().faults() == []
    assert (run().uncounted, run().unseen, run().lost_text()) == (0, 0, "0")


def test_losses_by_name_are_no_fault() -> None:
    """Before the span, at the exporter, and in the ring: there the request is known by difference."""
    found = run(served=110, begun=103, lost=3, exported=96, arrived=96, dropped=4, ring_full=8)

    assert found.faults() == []
    assert found.lost == {"gap_in_head": 3, "queue_full": 4}
    assert (found.uncounted, found.unseen) == (0, 7)
    assert found.lost_text() == "gap_in_head 3, queue_full 4, ring full: 8 records, 7 requests"


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ({"served": 101}, "1 requests are neither a span nor counted as lost"),
        ({"served": 110, "ring_full": 8}, "2 requests are neither a span nor counted as lost"),
        ({"served": 99}, "1 spans more than requests"),
        ({"difference": 1}, "the collector's balance sheet does not balance"),
        ({"told": 98}, "/metrics told of 98 spans, the balance sheet of 100"),
        ({"arrived": 97}, "100 spans exported, 97 arrived"),
    ],
)
def test_each_fault_is_named(numbers: dict[str, int], fault: str) -> None:
    """One at a time."""
    assert run(**numbers).faults() == [fault]
