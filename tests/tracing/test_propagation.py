"""Trace context is read as W3C Trace Context says, or not at all."""

from __future__ import annotations

import pytest

from otelbpf.tracing.propagation import Context, read_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def test_a_traceparent_is_honoured() -> None:
    """Ids, flags and the state that came with it."""
    context = read_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"})

    assert context == Context(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1, "a=1")
    assert context.sampled


def test_a_later_version_may_have_more_fields() -> None:
    """Section 3.2.2: read what is known."""
    context = read_context({"traceparent": f"cc-{TRACE}-{SPAN}-00-what-comes"})

    assert context is not None
    assert not context.sampled


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}x-{SPAN}-01",
    ],
)
def test_a_malformed_one_is_none(traceparent: str) -> None:
    """Section 3.2.2.2 to 3.2.2.5."""
    assert read_context({"traceparent": traceparent}) is None


def test_no_header_is_none() -> None:
    """tracestate alone means nothing."""
    assert read_context({"tracestate": "a=1"}) is None
