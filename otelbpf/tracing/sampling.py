"""Which spans are kept, by the SDK's own samplers and the standard variables OTEL_TRACES_SAMPLER and _ARG.

(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otelbpf.errors import ConfigError
from otelbpf.tracing.propagation import Context

NAMES: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
Decide = Callable[[bytes, str, Context | None], bool]
"""Trace id (16 bytes), span name and the parent, if one came with the request: keep it?"""


def make_sampler(name: str, argument: str = "") -> Decide:
    """The decision function of a named sampler; ConfigError where the name or the ratio is none."""
    if name not in NAMES:
        raise ConfigError(f"OTEL_TRACES_SAMPLER: unknown sampler {name!r}", f"use one of {', '.join(NAMES)}")
    kind = name.removeprefix("parentbased_")
    root = TraceIdRatioBased(_ratio(argument)) if kind == "traceidratio" else _FIXED[kind]
    if name == "parentbased_always_on":
        return _parent_or_always
    if name == "always_on":
        return _always
    return _ask(ParentBased(root) if kind != name else root)


def _always(trace_id: bytes, name: str, parent: Context | None) -> bool:
    return True


def _parent_or_always(trace_id: bytes, name: str, parent: Context | None) -> bool:
    return parent is None or parent.sampled


def _ask(sampler: Sampler) -> Decide:
    def decide(trace_id: bytes, name: str, parent: Context | None) -> bool:
        number = int.from_bytes(trace_id, "big")
        context = None
        if parent is not None:
            span = SpanContext(number, int.from_bytes(parent.span_id, "big"), True, TraceFlags(parent.flags & 0xFF))
            context = set_span_in_context(NonRecordingSpan(span))
        return sampler.should_sample(context, number, name).decision is not Decision.DROP

    return decide


def _ratio(argument: str) -> float:
    try:
        ratio = float(argument or "1.0")
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG: {argument!r} is no ratio", "give a number from 0 to 1")
    return ratio


_FIXED: Final = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}
