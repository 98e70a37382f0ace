"""What one setting alone cannot tell: that settings fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otelbpf.config.settings import Settings
from otelbpf.errors import ConfigError


def check_together(settings: Settings, origins: Mapping[str, str]) -> None:
    """Raise ConfigError, one line for each pair of settings that cannot both be."""
    problems = [f"{key} ({origins[key]}): {text}" for key, text in _problems(settings)]
    if problems:
        raise ConfigError("\n".join(problems))


def _problems(settings: Settings) -> Iterator[tuple[str, str]]:
    ring = settings.capture.ring_bytes
    if ring & (ring - 1):
        yield "capture.ring_bytes", f"{ring} is not a power of two; the next one is {1 << ring.bit_length()}"
    if settings.limits.head_bytes < settings.capture.head_limit_bytes:
        yield "limits.head_bytes", "less than capture.head_limit_bytes, so that copied bytes would be thrown away"
    export = settings.export
    if export.queue_spans is not None and export.batch_spans is not None and export.batch_spans > export.queue_spans:
        yield "export.batch_spans", f"more than export.queue_spans, which is {export.queue_spans}"
    to = export.to
    for spec in sorted({spec for spec in to if to.count(spec) > 1}):
        yield "export.to", f"{spec} is named twice"
    if "none" in to and len(to) > 1:
        yield "export.to", "none stands alone; leave it out, or leave the others out"
    if "console" in to and "file:-" in to:
        yield "export.to", "console and file:- both write to standard output; give the file a path"
