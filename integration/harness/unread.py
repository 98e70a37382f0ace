"""What is said of programs whose TLS cannot be read."""

from __future__ import annotations

import json

from integration.harness import balance
from integration.harness.collector import Collector


def assert_named(collector: Collector, program: str, pid: int, *, unread: int) -> None:
    """Of all programs this one is named, once; so many connections are counted as not read; all accounts balance."""
    (line,) = [line for line in collector.stderr().splitlines() if '"tls.not_read"' in line]
    said = json.loads(line)
    assert (said["executable"].rpartition("/")[2], said["pid"]) == (program, pid)
    sheet = balance.parse(collector.stderr())
    sheet.assert_balanced()
    assert sheet.lists["connections"]["tls_not_read"] == unread
    assert sheet.lost == {}
