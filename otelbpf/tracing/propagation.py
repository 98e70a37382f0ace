"""Reads the trace context a request carries (W3C Trace Context Level 1, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

SAMPLED = 0x01
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_TRACESTATE = 512
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16


class Context(msgspec.Struct, frozen=True, gc=False):
    """A parent somewhere else."""

    trace_id: bytes
    span_id: bytes
    flags: int
    trace_state: str

    @property
    def sampled(self) -> bool:
        """The caller records this trace."""
        return bool(self.flags & SAMPLED)


def read_context(headers: Mapping[str, str]) -> Context | None:
    """The context in `traceparent` and `tracestate`; None where there is none or it is malformed (section 3.2.2)."""
    traceparent = headers.get("traceparent")
    if traceparent is None:
        return None
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # Version ff is forbidden; version 00 has exactly four fields; a later one may have more.
    if version == "ff" or (version == "00" and rest) or trace_id == _ZERO_TRACE or span_id == _ZERO_SPAN:
        return None
    trace_state = headers.get("tracestate", "")
    return Context(
        bytes.fromhex(trace_id),
        bytes.fromhex(span_id),
        int(flags, 16),
        trace_state if len(trace_state) <= _MAX_TRACESTATE else "",
    )
