"""The ledger as Prometheus metrics: one collector that reads the counters when it is asked, and keeps none of its own.

The ledger's dicts are written by the pipeline's thread while they are read here; each is copied first, which nothing
can interrupt. Between two copies a counter may move, so its balances are exact only while no request is under way; an
exporter's account has a lock and balances always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from otelbpf import __version__
from otelbpf.telemetry.ledger import ExportAccount, Ledger
from otelbpf.telemetry.process import usage

_Name = TypeVar("_Name", bound=str)
_OPENMETRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"


class LedgerMetrics(Collector):
    """Everything the ledger counts, and what the collector costs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """The metrics as of now."""
        yield InfoMetricFamily("otelbpf_build", "This collector.", value={"version": __version__})
        yield from self._records()
        yield from self._bytes()
        yield from self._requests()
        yield from self._kernel()
        yield from _exporters(dict(self._ledger.exports))
        yield from self._process()

    def _records(self) -> Iterator[Metric]:
        yield _by("otelbpf_records", "Records taken from the source.", "kind", _plain(self._ledger.records))
        yield _by(
            "otelbpf_connections",
            "Connections, by what became of them.",
            "outcome",
            _plain(self._ledger.connections),
        )

    def _bytes(self) -> Iterator[Metric]:
        ledger = self._ledger
        kernel, seen, unseen = ledger.kernel_bytes, ledger.seen_bytes, _plain(ledger.unseen_bytes)
        metric = CounterMetricFamily(
            "otelbpf_bytes",
            "Bytes of traced connections: seen, or not seen and why.",
            labels=("outcome", "reason"),
        )
        metric.add_metric(("seen", ""), seen)
        for reason, count in unseen.items():
            metric.add_metric(("unseen", reason), count)
        yield metric
        yield _counter("otelbpf_kernel_bytes", "Bytes the kernel says were sent or received.", kernel)
        yield _gauge(
            "otelbpf_bytes_difference",
            "Kernel bytes that are in no column of otelbpf_bytes_total; 0 when the account is right.",
            kernel - seen - sum(unseen.values()),
        )

    def _requests(self) -> Iterator[Metric]:
        ledger = self._ledger
        begun, spans, lost = ledger.requests_begun, ledger.spans, _plain(ledger.spans_lost)
        yield _counter("otelbpf_requests", "Requests whose beginning was seen.", begun)
        yield _counter("otelbpf_spans", "Spans handed to the exporters.", spans)
        yield _by(
            "otelbpf_spans_lost",
            "Requests that did not become a span, by reason.",
            "reason",
            lost,
        )
        yield _gauge(
            "otelbpf_requests_open",
            "Requests begun and neither a span nor lost yet; 0 once every exchange has ended.",
            begun - spans - sum(lost.values()),
        )

    def _kernel(self) -> Iterator[Metric]:
        losses = dict(self._ledger.kernel_losses)
        yield _by(
            "otelbpf_kernel_losses",
            "Events the probes could not or should not deliver, by reason.",
            "reason",
            {reason: events for reason, (events, _) in losses.items()},
        )
        yield _by(
            "otelbpf_kernel_lost_bytes",
            "Bytes of otelbpf_kernel_losses_total, by reason.",
            "reason",
            {reason: count for reason, (_, count) in losses.items()},
        )

    def _process(self) -> Iterator[Metric]:
        used = usage()
        yield _counter("process_cpu_seconds", "User and system processor time spent.", used.cpu_seconds)
        yield _gauge("process_resident_memory_bytes", "Resident memory, shared pages included.", used.resident_bytes)
        yield _gauge("otelbpf_process_anonymous_memory_bytes", "Memory of this process alone.", used.anonymous_bytes)
        yield _gauge("process_start_time_seconds", "Unix time of the collector's start.", self._started)


class MetricsPage:
    """/metrics: the ledger, and whatever else there is to tell once it is known who measures it."""

    def __init__(self, ledger: Ledger) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(LedgerMetrics(ledger))
        self.more: Callable[[bool], Iterable[bytes]] = lambda openmetrics: ()
        """Lines of other metrics, in pieces; told whether as OpenMetrics."""

    def render(self, accept: str) -> tuple[Iterator[bytes], str]:
        """The metrics in the format an Accept header asks for (Prometheus text, OpenMetrics), in pieces, and its
        content type."""
        # Only the media type decides: a version or an escaping scheme from outside would come back in the content type.
        types = [offer.split(";")[0].strip().lower() for offer in accept.split(",")]
        known = next((offer for offer in types if offer in ("text/plain", _OPENMETRICS)), "text/plain")
        encode, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if known == _OPENMETRICS else "")
        return self._pieces(encode(self._registry), openmetrics=known == _OPENMETRICS), content_type

    def _pieces(self, first: bytes, *, openmetrics: bool) -> Iterator[bytes]:
        yield first.removesuffix(_EOF) if openmetrics else first
        yield from self.more(openmetrics)
        if openmetrics:
            yield _EOF


def _exporters(accounts: Mapping[str, ExportAccount]) -> Iterable[Metric]:
    accepted = CounterMetricFamily(
        "otelbpf_exporter_accepted_spans", "Spans handed to the exporter.", labels=("exporter",)
    )
    spans = CounterMetricFamily(
        "otelbpf_exporter_spans",
        "Spans the exporter is done with: exported, or lost and why.",
        labels=("exporter", "outcome", "reason"),
    )
    failures = CounterMetricFamily(
        "otelbpf_exporter_failures", "Attempts that failed and are tried again.", labels=("exporter",)
    )
    queued = GaugeMetricFamily("otelbpf_exporter_queue_spans", "Spans waiting.", labels=("exporter",))
    queued_bytes = GaugeMetricFamily("otelbpf_exporter_queue_bytes", "Bytes of waiting spans.", labels=("exporter",))
    difference = GaugeMetricFamily(
        "otelbpf_exporter_difference",
        "Accepted spans that are in no column; 0 when the account is right.",
        labels=("exporter",),
    )
    for name, account in accounts.items():
        with account.lock:
            lost = _plain(account.lost)
            accepted.add_metric((name,), account.accepted)
            spans.add_metric((name, "exported", ""), account.exported)
            failures.add_metric((name,), account.failures)
            queued.add_metric((name,), account.queued)
            queued_bytes.add_metric((name,), account.queued_bytes)
            difference.add_metric((name,), account.balance())
        for reason, count in lost.items():
            spans.add_metric((name, "lost", reason), count)
    return accepted, spans, failures, queued, queued_bytes, difference


def _plain(counts: Mapping[_Name, int]) -> dict[str, int]:
    return {str(name): count for name, count in dict(counts).items()}


def _counter(name: str, description: str, value: float) -> Metric:
    metric = CounterMetricFamily(name, description)
    metric.add_metric((), value)
    return metric


def _gauge(name: str, description: str, value: float) -> Metric:
    metric = GaugeMetricFamily(name, description)
    metric.add_metric((), value)
    return metric


def _by(name: str, description: str, label: str, counts: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(name, description, labels=(label,))
    for value, count in counts.items():
        metric.add_metric((value,), count)
    return metric
