"""The ledger as metrics: every counter, once, in both formats."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otelbpf.exporters.prometheus import MetricsPage
from otelbpf.telemetry.ledger import ExportAccount, Ledger, Lost, Unseen


def _ledger() -> Ledger:
    ledger = Ledger()
    ledger.records.update(data=23, state=7)
    ledger.connections.update(opened=5)
    ledger.kernel_bytes = 1000
    ledger.seen_bytes = 700
    ledger.unseen_bytes.update({Unseen.BEYOND_BUDGET: 250, Unseen.RING_FULL: 50})
    ledger.requests_begun = 11
    ledger.spans = 8
    ledger.spans_lost.update({Lost.GAP_IN_HEAD: 2})
    ledger.kernel_losses = {"ring_full_data": (3, 50), "own": (0, 0)}
    account = ExportAccount()
    account.accepted, account.exported, account.failures, account.queued, account.queued_bytes = 8, 5, 4, 2, 512
    account.lost[Lost.REJECTED] = 1
    ledger.exports["otlp"] = account
    return ledger


EXPECTED = {
    'otelbpf_records_total{kind="data"}': 23,
    'otelbpf_records_total{kind="state"}': 7,
    'otelbpf_connections_total{outcome="opened"}': 5,
    'otelbpf_bytes_total{outcome="seen",reason=""}': 700,
    'otelbpf_bytes_total{outcome="unseen",reason="beyond_budget"}': 250,
    'otelbpf_bytes_total{outcome="unseen",reason="ring_full"}': 50,
    "otelbpf_kernel_bytes_total{}": 1000,
    "otelbpf_bytes_difference{}": 0,
    "otelbpf_requests_total{}": 11,
    "otelbpf_spans_total{}": 8,
    'otelbpf_spans_lost_total{reason="gap_in_head"}': 2,
    "otelbpf_requests_open{}": 1,
    'otelbpf_kernel_losses_total{reason="ring_full_data"}': 3,
    'otelbpf_kernel_losses_total{reason="own"}': 0,
    'otelbpf_kernel_lost_bytes_total{reason="ring_full_data"}': 50,
    'otelbpf_kernel_lost_bytes_total{reason="own"}': 0,
    'otelbpf_exporter_accepted_spans_total{exporter="otlp"}': 8,
    'otelbpf_exporter_spans_total{exporter="otlp",outcome="exported",reason=""}': 5,
    'otelbpf_exporter_spans_total{exporter="otlp",outcome="lost",reason="rejected"}': 1,
    'otelbpf_exporter_failures_total{exporter="otlp"}': 4,
    'otelbpf_exporter_queue_spans{exporter="otlp"}': 2,
    'otelbpf_exporter_queue_bytes{exporter="otlp"}': 512,
    'otelbpf_exporter_difference{exporter="otlp"}': 0,
}
OF_THE_PROCESS = {
    'otelbpf_build_info{version="0.1.0"}',
    "process_cpu_seconds_total{}",
    "process_resident_memory_bytes{}",
    "otelbpf_process_anonymous_memory_bytes{}",
    "process_start_time_seconds{}",
}


def _read(ledger: Ledger, accept: str = "") -> tuple[bytes, str]:
    pieces, content_type = MetricsPage(ledger).render(accept)
    return b"".join(pieces), content_type


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_every_counter_once_in_both_formats(accept: str) -> None:
    body, content_type = _read(_ledger(), accept)
    families = list((parse_openmetrics if "openmetrics" in content_type else parse_text)(body.decode()))
    samples = [
        ("{}{{{}}}".format(s.name, ",".join(f'{k}="{v}"' for k, v in sorted(s.labels.items()))), s.value)
        for family in families
        for s in family.samples
    ]

    assert len(samples) == len(dict(samples))
    assert {name: value for name, value in samples if name not in OF_THE_PROCESS} == EXPECTED
    assert {name for name, _ in samples} == EXPECTED.keys() | OF_THE_PROCESS
    assert all(family.documentation.endswith(".") or "; 0 " in family.documentation for family in families)


def test_an_empty_ledger_has_its_plain_counters_at_zero() -> None:
    body, _ = _read(Ledger())

    assert b"\notelbpf_requests_total 0.0\n" in body
    assert b"\notelbpf_bytes_difference 0.0\n" in body


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("text/plain;version=1.0.0;escaping=x\x00y", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=99999999999.no,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_follows_the_accept_header_and_repeats_nothing_of_it(accept: str, content_type: str) -> None:
    _, given = _read(Ledger(), accept)

    assert given.removesuffix("; escaping=underscores") == content_type


def test_what_the_process_costs_is_told() -> None:
    body, _ = _read(Ledger())
    values = {s.name: s.value for family in parse_text(body.decode()) for s in family.samples}

    assert 1e6 < values["otelbpf_process_anonymous_memory_bytes"] <= values["process_resident_memory_bytes"]
    assert values["process_cpu_seconds_total"] > 0
