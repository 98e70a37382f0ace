"""The same records again, several at a time, as a live source hands them on."""

from __future__ import annotations

from otelbpf.pipeline import Pipeline
from otelbpf.telemetry.ledger import Ledger
from otelbpf.tracing.span import Span
from otelbpf.values import as_dict
from tests.fake_kernel import FakeSource

SIZES = (2, 3, 7, 1000)


def told(spans: list[Span]) -> list[tuple[object, ...]]:
    """All that a span says; who it is of and what it shares by value."""
    return [
        (
            *[value for name, value in as_dict(span).items() if name not in ("resource", "shared")],
            span.resource.attributes,
            span.shared.attributes,
        )
        for span in spans
    ]


def in_batches(records: list[bytes], size: int, **settings: object) -> tuple[list[Span], Ledger]:
    """The same records, so many at a time."""
    spans: list[Span] = []
    ledger = Ledger()
    pipeline = Pipeline(ledger=ledger, emit=spans.extend, source=FakeSource(), seed=1, **settings)  # type: ignore[arg-type]
    for at in range(0, len(records), size):
        pipeline.feed(records[at : at + size])
    pipeline.finish()
    return spans, ledger
