"""From what the user asked for to running exporters.

A SPEC is `otlp`, `console`, `none`, `file:PATH` or `file:-` (standard output, where then nothing else is written).
Without one OTEL_TRACES_EXPORTER decides (the same words, with commas between them); without that, an OTLP endpoint in
the environment means `otlp`, and nothing at all means `console`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import msgspec

from otelbpf.errors import ConfigError, OtelbpfError
from otelbpf.exporters.base import Encoder, Exporter, Sender
from otelbpf.exporters.console import LINES_PER_SECOND, ConsoleEncoder
from otelbpf.exporters.file import open_descriptor, open_file
from otelbpf.exporters.json import JsonEncoder
from otelbpf.exporters.otlp import find, open_otlp, read_settings
from otelbpf.exporters.queue import Limits, QueuedExporter
from otelbpf.telemetry.ledger import ExportAccount, Ledger

QUEUE_BYTES = 32 * 1024 * 1024
"""What waits in front of one exporter by default: about 50,000 spans."""

_WORDS = ("otlp", "console", "none", "file:PATH", "file:-")


def choose(specs: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The exporters that are meant, in the order given; raises ConfigError when they cannot be."""
    origin = "--export"
    if not specs:
        origin = "OTEL_TRACES_EXPORTER"
        specs = [word for word in environment.get(origin, "").split(",") if word.strip()]
    if not specs:
        return ["otlp"] if find(environment, "ENDPOINT") else ["console"]
    chosen = [_known(origin, spec.strip()) for spec in specs]
    for spec in chosen:
        if chosen.count(spec) > 1:
            raise ConfigError(f"{origin}: {spec} is given twice", "give it once")
    if "none" in chosen and len(chosen) > 1:
        raise ConfigError(f"{origin}: none cannot go with others", "leave it out")
    if "console" in chosen and "file:-" in chosen:
        raise ConfigError(f"{origin}: console and file:- both want standard output", "choose one")
    return [spec for spec in chosen if spec != "none"]


def build_exporters(
    specs: Sequence[str],
    *,
    environment: Mapping[str, str],
    ledger: Ledger,
    version: str,
    queue_bytes: int = QUEUE_BYTES,
    queue_spans: int | None = None,
    batch_spans: int | None = None,
    delay_seconds: float | None = None,
    attempt_seconds: float | None = None,
    patience_seconds: float = 0.0,
    files: Mapping[str, Sender] | None = None,
    stdout_fd: int = 1,
) -> list[Exporter]:
    """Running exporters, each with its account in `ledger.exports` under its name.

    `queue_spans`, `batch_spans`, `delay_seconds` and `attempt_seconds` are the OTEL_BSP_* variables' unless given, and
    each exporter's own default without these. `patience_seconds` above 0 makes a full exporter wait for room, as long
    as something moves at least that often: for sources that can wait (capture files), so that nothing is lost; 0 drops
    the oldest instead. `files` are those already open, by path: a file may be out of reach once privileges were
    dropped, and the threads that are started here should not have them.
    """
    given = {
        "queue_spans": queue_spans,
        "batch_spans": batch_spans,
        "delay_seconds": delay_seconds,
        "attempt_seconds": attempt_seconds,
    }
    asked = _asked_limits(environment) | {name: value for name, value in given.items() if value is not None}
    limits = Limits(queue_bytes=queue_bytes, patience_seconds=patience_seconds)
    exporters: list[Exporter] = []
    try:
        for spec in choose(specs, environment):
            encoder, sender, destination, own = _parts(
                spec, limits, environment=environment, version=version, files=files or {}, stdout_fd=stdout_fd
            )
            account = ledger.exports[spec] = ExportAccount()
            exporter = QueuedExporter(
                spec,
                destination=destination,
                encoder=encoder,
                sender=sender,
                account=account,
                limits=_with_asked(own, asked),
            )
            exporters.append(exporter)
    except OtelbpfError:
        for started in exporters:
            started.shutdown(0.0)
        raise
    return exporters


def _known(origin: str, spec: str) -> str:
    if spec in ("otlp", "console", "none") or (spec.startswith("file:") and spec != "file:"):
        return spec
    if spec in ("file", "file:"):
        raise ConfigError(f"{origin}: {spec!r} names no file", "write file:spans.jsonl, or file:- for standard output")
    nearest = get_close_matches(spec, _WORDS, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ConfigError(f"{origin}: unknown exporter {spec!r}", f"{hint}known: {', '.join(_WORDS)}")


def _parts(
    spec: str,
    limits: Limits,
    *,
    environment: Mapping[str, str],
    version: str,
    files: Mapping[str, Sender],
    stdout_fd: int,
) -> tuple[Encoder, Sender, str, Limits]:
    """Encoder, sender, what people call the destination, and the limits that suit it."""
    if spec == "otlp":
        settings = read_settings(environment)
        encoder, sender = open_otlp(settings, environment=environment, version=version)
        own = msgspec.structs.replace(limits, attempt_seconds=settings.timeout_seconds)
        return encoder, sender, f"{settings.destination} ({settings.protocol})", own
    if spec == "console":
        # Whoever can wait wants every line; a live stream is cut to what eyes can follow. One batch a half second, as
        # each may bring one line that sums up the rest.
        rate = None if limits.patience_seconds else LINES_PER_SECOND
        own = msgspec.structs.replace(limits, delay_seconds=0.5, batch_spans=1 << 30, batch_bytes=limits.queue_bytes)
        lines = ConsoleEncoder(terminal=os.isatty(stdout_fd), lines_per_second=rate)
        return lines, open_descriptor(stdout_fd), "stdout", own
    path = spec.removeprefix("file:")
    own = msgspec.structs.replace(limits, delay_seconds=0.2)
    if path == "-":
        return JsonEncoder(version=version), open_descriptor(stdout_fd), "stdout", own
    return JsonEncoder(version=version), files.get(path) or open_file(path), path, own


_BSP = {
    "OTEL_BSP_MAX_QUEUE_SIZE": ("queue_spans", 1),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": ("batch_spans", 1),
    "OTEL_BSP_SCHEDULE_DELAY": ("delay_seconds", 0),
    "OTEL_BSP_EXPORT_TIMEOUT": ("attempt_seconds", 0),
}
"""Variable, limit and smallest value; the last two are in milliseconds.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#batch-span-processor"""


def _asked_limits(environment: Mapping[str, str]) -> dict[str, float]:
    asked: dict[str, float] = {}
    for variable, (limit, least) in _BSP.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) < least:
            unit = " of milliseconds" if limit.endswith("_seconds") else ""
            raise ConfigError(f"{variable} is {text!r}", f"give a whole number{unit}, {least} or more")
        asked[limit] = int(text) / 1000 if limit.endswith("_seconds") else int(text)
    if "queue_spans" in asked and asked.get("batch_spans", 0) > asked["queue_spans"]:
        raise ConfigError(
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is more than OTEL_BSP_MAX_QUEUE_SIZE", "make the queue larger"
        )
    return asked


def _with_asked(own: Limits, asked: dict[str, float]) -> Limits:
    # The export timeout bounds an attempt besides OTEL_EXPORTER_OTLP_TIMEOUT; 0 means no such bound.
    attempt_seconds = min(own.attempt_seconds, asked.get("attempt_seconds") or own.attempt_seconds)
    return msgspec.structs.replace(own, **{**asked, "attempt_seconds": attempt_seconds})
