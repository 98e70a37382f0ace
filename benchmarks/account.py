"""Completeness: requests made, counted by the server, begun, exported, arrived and lost; what is in no column.

A figure of a collector that loses what it does not count is no figure. Losing by name is allowed, and shown.
"""

from __future__ import annotations

import msgspec

from benchmarks.sink import Counts
from integration.harness.balance import Sheet

RING_FULL = ("ring_full_data", "ring_full_state")


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One traced run."""

    made: int
    """Answers the load generator counted, and those of the benchmark's own few requests."""
    served: int
    """Requests the server counted while it was traced."""
    ends: int = 1
    """How many ends of each connection were traced."""
    begun: int
    built: int
    """Spans handed to the exporter, says the collector."""
    spans: int
    """Exported, says the collector."""
    arrived: Counts | None
    """What the backend counted, where there is one."""
    lost: dict[str, int]
    """Requests that became no span, and spans that were not delivered, by reason; from the balance sheet."""
    ring_full: int
    """Records for which the ring had no room; a request whose record is among them never began."""
    balanced: bool
    """The sheet's own differences are 0."""
    told: int
    """Spans by /metrics, read before the collector's end, when it was idle."""

    @property
    def uncounted(self) -> int:
        """Requests that are neither a span nor on any account."""
        missing = self.served * self.ends - self.spans - sum(self.lost.values())
        return max(missing - self.ring_full, 0)

    @property
    def unseen(self) -> int:
        """Requests that never began for the collector because a record of theirs found no room; known by difference."""
        return max(self.served * self.ends - self.spans - sum(self.lost.values()), 0)

    def faults(self) -> list[str]:
        """What is wrong with the account; a benchmark with one fails."""
        found = []
        if self.uncounted:
            found.append(f"{self.uncounted} requests are neither a span nor counted as lost")
        if self.ends == 1 and self.spans > self.served:
            found.append(f"{self.spans - self.served} spans more than requests")
        if not self.balanced:
            found.append("the collector's balance sheet does not balance")
        if self.told != self.built:
            found.append(f"/metrics told of {self.told} spans, the balance sheet of {self.built}")
        if self.arrived is not None and self.arrived.spans != self.spans:
            found.append(f"{self.spans} spans exported, {self.arrived.spans} arrived")
        if self.arrived is not None and self.ends == 1 and self.arrived.server != self.arrived.spans:
            found.append(f"{self.arrived.spans - self.arrived.server} spans are not of kind SERVER")
        return found

    def lost_text(self) -> str:
        """The losses in words."""
        told = [f"{reason} {count:,}" for reason, count in sorted(self.lost.items()) if count]
        if self.ring_full:
            told.append(f"ring full: {self.ring_full:,} records, {self.unseen:,} requests")
        return ", ".join(told) or "0"


def account(
    *, made: int, served: int, sheet: Sheet, metrics: dict[str, float], arrived: Counts | None, ends: int = 1
) -> Account:
    """The account of a run from what all sides say."""
    (exporter,) = sheet.exports.values()
    sheets = [sheet.bytes, sheet.requests, exporter]
    lost = dict(sheet.lost)
    for name, count in exporter.items():
        if name.startswith("lost: "):
            reason = name.removeprefix("lost: ")
            lost[reason] = lost.get(reason, 0) + count
    events = sheet.lists.get("left out by the probes, events", {})
    return Account(
        made=made,
        served=served,
        ends=ends,
        begun=sheet.requests["begun"],
        built=sheet.requests["spans"],
        spans=exporter["exported"],
        arrived=arrived,
        lost=lost,
        ring_full=sum(events.get(reason, 0) for reason in RING_FULL),
        balanced=all(each["difference"] == 0 for each in sheets),
        told=int(metrics["otelbpf_spans_total"]),
    )
