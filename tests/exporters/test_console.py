"""The console: a line a span, as many as eyes can follow, and the rest by number."""

from __future__ import annotations

import os
import re
import time

import pytest
from hypothesis import given

from otelbpf.exporters.build import build_exporters
from otelbpf.exporters.console import ConsoleEncoder
from otelbpf.telemetry.ledger import Ledger
from otelbpf.tracing.span import Kind, Resource, Span, Status
from otelbpf.values import replace
from tests.exporters.sample import HTTP, VERSION, garbage, made


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _text(encoder: ConsoleEncoder, spans: list[Span]) -> str:
    return encoder.assemble(encoder.encode(spans)).decode()


def test_a_line() -> None:
    """The target stands where the name has the route."""
    failed = replace(
        HTTP,
        kind=Kind.CLIENT,
        name="GET",
        attributes=(("url.full", "http://x/"), ("error.type", "ECONNRESET")),
        status=Status.ERROR,
        start_ns=HTTP.start_ns + 12_000_000,
        end_ns=HTTP.start_ns + 1_000_000_000,
    )

    assert _text(ConsoleEncoder(terminal=False), [HTTP, failed]) == (
        "02:13:20.000  shop                 SERVER   GET /orders/17                              200      1.24 ms\n"
        "02:13:20.012  shop                 CLIENT   GET http://x/                            ECONNRESET    988.00 ms\n"
    )


def test_a_terminal_gets_the_same_words_in_colour() -> None:
    plain = _text(ConsoleEncoder(terminal=False), made(3))
    coloured = _text(ConsoleEncoder(terminal=True), made(3))

    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_a_terminal_obeys_no_stranger() -> None:
    attributes = (("url.path", "/\x1b[2J[bold]\r\n"),)
    span = replace(HTTP, name="GET /", attributes=attributes, resource=Resource((("service.name", "\x07\udc80"),)))

    for terminal in (False, True):
        text = _text(ConsoleEncoder(terminal=terminal), [span])
        assert r"GET /\x1b[2J[bold]\r\n" in text
        assert r"\x07\udc80" in text
        assert text.count("\n") == 1
        assert "\x1b[2J" not in text


@given(garbage)
def test_nothing_in_a_span_can_stop_it(span: Span) -> None:
    assert _text(ConsoleEncoder(terminal=False), [span]).count("\n") == 1


def test_a_flood_is_summed_up_each_second() -> None:
    now = [100.0]
    encoder = ConsoleEncoder(terminal=False, lines_per_second=5, clock=lambda: now[0])

    first = _text(encoder, made(3))
    second = _text(encoder, made(1000))
    third = _text(encoder, made(7))
    now[0] += 1.0
    fourth = _text(encoder, made(6))

    assert [text.count(" SERVER ") for text in (first, second, third, fourth)] == [3, 2, 0, 5]
    assert first.count("more spans") == 0
    assert second.endswith("\n... and 998 more spans, exported but not shown (file:- writes every one)\n")
    assert third == "... and 7 more spans, exported but not shown (file:- writes every one)\n"
    assert fourth.endswith("... and 1 more spans, exported but not shown (file:- writes every one)\n")


@pytest.mark.parametrize(("patience_seconds", "shown"), [(0.0, 50), (10.0, 230)])
def test_every_span_counts_as_exported_shown_or_not(patience_seconds: float, shown: int) -> None:
    """Whoever can wait gets every line."""
    reader, writer = os.pipe()
    exporter = build_exporters(
        ["console"],
        environment={},
        ledger=Ledger(),
        version=VERSION,
        patience_seconds=patience_seconds,
        stdout_fd=writer,
    )[0]
    exporter.export(made(230))
    exporter.shutdown(5)
    os.close(writer)

    with open(reader, "rb") as pipe:
        assert pipe.read().count(b"GET /orders") == shown
    assert (exporter.account.exported, exporter.account.balance()) == (230, 0)
