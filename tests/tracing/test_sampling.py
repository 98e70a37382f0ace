"""Sampling is the SDK's, by the standard names."""

from __future__ import annotations

import pytest

from otelbpf.errors import ConfigError
from otelbpf.tracing.propagation import Context
from otelbpf.tracing.sampling import NAMES, make_sampler

YES = Context(b"\1" * 16, b"\2" * 8, 1, "")
NO = Context(b"\1" * 16, b"\2" * 8, 0, "")


@pytest.mark.parametrize(
    ("name", "root", "sampled", "unsampled"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
    ],
)
def test_decisions(name: str, root: bool, sampled: bool, unsampled: bool) -> None:
    """Without a parent, with one that is sampled, with one that is not."""
    decide = make_sampler(name)

    assert (decide(b"\1" * 16, "GET", None), decide(b"\1" * 16, "GET", YES), decide(b"\1" * 16, "GET", NO)) == (
        root,
        sampled,
        unsampled,
    )


@pytest.mark.parametrize("name", ["traceidratio", "parentbased_traceidratio"])
def test_a_ratio_decides_by_the_trace_id(name: str) -> None:
    """Exactly those whose lower 64 bits lie below the bound: half of them."""
    decide = make_sampler(name, "0.5")
    ids = [(i << 56).to_bytes(16, "big") for i in range(256)]

    assert [decide(trace_id, "GET", None) for trace_id in ids] == [i < 128 for i in range(256)]


def test_every_name_is_known() -> None:
    """None of the standard names is refused."""
    for name in NAMES:
        make_sampler(name)


@pytest.mark.parametrize(("name", "argument"), [("sometimes", ""), ("traceidratio", "2"), ("traceidratio", "half")])
def test_what_cannot_be_is_refused(name: str, argument: str) -> None:
    """The error names the variable."""
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER"):
        make_sampler(name, argument)
