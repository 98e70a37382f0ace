"""Where spans go, and which."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from otelbpf.config.forms import (
    ENDPOINT,
    MILLISECONDS,
    PAIRS,
    PATH,
    RATIO,
    SECONDS,
    SIZE,
    SPEC,
    SWITCH,
    WHOLE,
    choice,
    list_of,
    or_auto,
)
from otelbpf.config.source import GIB, KIB, MIB, Source


class Metrics(msgspec.Struct, frozen=True):
    """What is told of every exchange together."""

    to: Annotated[
        str,
        Meta(description="Besides /metrics also otlp, only there (prometheus), or none; auto: otlp with an endpoint."),
        Source(choice("auto", "otlp", "prometheus", "none"), variables=("OTEL_METRICS_EXPORTER",)),
    ] = "auto"
    interval_seconds: Annotated[
        float,
        Meta(description="How often they are sent over OTLP.", ge=0.1, le=86400),
        Source(SECONDS, variables=("OTEL_METRIC_EXPORT_INTERVAL",), variable_form=MILLISECONDS),
    ] = 60.0
    timeout_seconds: Annotated[
        float,
        Meta(description="How long sending them may take.", ge=0.001, le=3600),
        Source(SECONDS, variables=("OTEL_METRIC_EXPORT_TIMEOUT",), variable_form=MILLISECONDS),
    ] = 30.0
    histograms: Annotated[
        str,
        Meta(description="How histograms are sent over OTLP; /metrics has explicit buckets either way."),
        Source(
            choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
            variables=("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",),
        ),
    ] = "explicit_bucket_histogram"
    max_series: Annotated[
        int,
        Meta(description="Series of each metric; what comes beyond them counts together.", ge=2, le=1_000_000),
        Source(WHOLE),
    ] = 10_000
    max_series_of_service: Annotated[
        int,
        Meta(description="And of each metric and service.", ge=2, le=1_000_000),
        Source(WHOLE),
    ] = 1000
    temporality: Annotated[
        str,
        Meta(description="Whether sums over OTLP count from the start, or (delta, lowmemory) from the last delivery."),
        Source(
            choice("cumulative", "delta", "lowmemory"),
            variables=("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",),
        ),
    ] = "cumulative"


def _otlp(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"


class Export(msgspec.Struct, frozen=True):
    """Where spans go."""

    to: Annotated[
        tuple[str, ...],
        Meta(
            description="Exporters: otlp, console, none, file:PATH, file:- (standard output); "
            "empty: otlp where an OTLP endpoint is configured, otherwise console.",
            max_length=8,
        ),
        Source(list_of(SPEC), flag="--export", variables=("OTEL_TRACES_EXPORTER",)),
    ] = ()
    queue_bytes: Annotated[
        int,
        Meta(
            description="Spans waiting for one exporter; beyond it the oldest are dropped and counted.",
            ge=64 * KIB,
            le=16 * GIB,
        ),
        Source(SIZE),
    ] = 32 * MIB
    queue_spans: Annotated[
        int | None,
        Meta(
            description="The most spans waiting for one exporter, besides the bytes; auto: any number.",
            ge=1,
            le=1 << 30,
        ),
        Source(or_auto(WHOLE), variables=("OTEL_BSP_MAX_QUEUE_SIZE",)),
    ] = None
    batch_spans: Annotated[
        int | None,
        Meta(description="The most spans sent at once; auto: what suits the exporter.", ge=1, le=65536),
        Source(or_auto(WHOLE), variables=("OTEL_BSP_MAX_EXPORT_BATCH_SIZE",)),
    ] = None
    delay_seconds: Annotated[
        float | None,
        Meta(
            description="The longest a span waits for its batch to fill; auto: what suits the exporter.", ge=0, le=3600
        ),
        Source(or_auto(SECONDS), variables=("OTEL_BSP_SCHEDULE_DELAY",), variable_form=MILLISECONDS),
    ] = None
    timeout_seconds: Annotated[
        float | None,
        Meta(
            description="How long one attempt may take, besides otlp.timeout_seconds; auto or 0: no other bound.",
            ge=0,
            le=3600,
        ),
        Source(or_auto(SECONDS), variables=("OTEL_BSP_EXPORT_TIMEOUT",), variable_form=MILLISECONDS),
    ] = None
    shutdown_seconds: Annotated[
        float,
        Meta(description="How long the end waits for spans still queued.", ge=0, le=3600),
        Source(SECONDS),
    ] = 10.0


class Otlp(msgspec.Struct, frozen=True):
    """How the exporter `otlp` reaches its backend; the names are those of the standard variables."""

    endpoint: Annotated[
        str,
        Meta(description="The backend's address; empty: port 4317 (gRPC) or 4318 (HTTP) of this host."),
        Source(ENDPOINT, variables=_otlp("ENDPOINT")),
    ] = ""
    protocol: Annotated[
        str,
        Meta(description="The protocol; auto: grpc where the endpoint's port is 4317, otherwise http/protobuf."),
        Source(choice("auto", "grpc", "http/protobuf", "http/json"), variables=_otlp("PROTOCOL")),
    ] = "auto"
    headers: Annotated[
        dict[str, str],
        Meta(description="Headers sent along, for authentication above all.", max_length=64),
        Source(PAIRS, variables=_otlp("HEADERS"), secret=True),
    ] = {}
    compression: Annotated[
        str,
        Meta(description="How what is sent is compressed."),
        Source(choice("none", "gzip", "deflate"), variables=_otlp("COMPRESSION")),
    ] = "none"
    timeout_seconds: Annotated[
        float,
        Meta(description="How long one attempt may take.", ge=0.001, le=3600),
        Source(SECONDS, variables=_otlp("TIMEOUT"), variable_form=MILLISECONDS),
    ] = 10.0
    insecure: Annotated[
        bool,
        Meta(description="Whether gRPC goes without TLS where the endpoint names no scheme."),
        Source(SWITCH, variables=_otlp("INSECURE")),
    ] = False
    certificate: Annotated[
        str,
        Meta(description="A PEM file with the authorities that may vouch for the backend; empty: the system's."),
        Source(PATH, variables=_otlp("CERTIFICATE")),
    ] = ""
    client_certificate: Annotated[
        str,
        Meta(description="A PEM file with the certificate shown to the backend; empty: none."),
        Source(PATH, variables=_otlp("CLIENT_CERTIFICATE")),
    ] = ""
    client_key: Annotated[
        str,
        Meta(description="A PEM file with that certificate's private key; empty: none."),
        Source(PATH, variables=_otlp("CLIENT_KEY")),
    ] = ""


class Sampling(msgspec.Struct, frozen=True):
    """Which traces are kept; a request's own sampled flag counts with the parentbased samplers."""

    sampler: Annotated[
        str,
        Meta(description="The OpenTelemetry sampler."),
        Source(
            choice(
                "always_on",
                "always_off",
                "traceidratio",
                "parentbased_always_on",
                "parentbased_always_off",
                "parentbased_traceidratio",
            ),
            variables=("OTEL_TRACES_SAMPLER",),
        ),
    ] = "parentbased_always_on"
    ratio: Annotated[
        float,
        Meta(description="The share of traces the traceidratio samplers keep.", ge=0, le=1),
        Source(RATIO, variables=("OTEL_TRACES_SAMPLER_ARG",)),
    ] = 1.0
