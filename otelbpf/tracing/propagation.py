"""Reads the trace context a request carries (W3C Trace Context Level 1, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from otelbpf.values import Value

SAMPLED: Final = 0x01
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_TRACESTATE: Final = 512
_ZERO_TRACE: Final = "0" * 32
_ZERO_SPAN: Final = "0" * 16


class Context(Value):
    """A parent somewhere else."""

    __match_args__ = ("trace_id", "span_id", "flags", "trace_state")

    def __init__(self, trace_id: bytes, span_id: bytes, flags: int, trace_state: str) -> None:
        self.trace_id: Final = trace_id
        self.span_id: Final = span_id
        self.flags: Final = flags
        self.trace_state: Final = trace_state

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
