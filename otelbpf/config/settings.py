"""Every setting: its type, default, bounds, one sentence about it, and where else than in the file it may be given.

A setting's key is its section and name: `capture.ring_bytes`. Its environment variable follows from the key
(OTELBPF_CAPTURE_RING_BYTES), and where OpenTelemetry names a standard variable, that one counts too.
`config/otelbpf.yaml` shows all of them at their defaults.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from otelbpf.config.forms import (
    ADDRESS,
    ENDPOINT,
    HEADER,
    MILLISECONDS,
    PAIRS,
    PATH,
    RATIO,
    SECONDS,
    SIZE,
    SPEC,
    SWITCH,
    TEXT,
    WHOLE,
    Form,
    choice,
    list_of,
    or_auto,
)

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Source(msgspec.Struct, frozen=True):
    """How a setting is written, and where it can come from besides the file and its own variable."""

    form: Form
    flag: str = ""
    variables: tuple[str, ...] = ()
    """The standard OpenTelemetry variables, the first that is set counts; the project's own variable wins over them."""
    variable_form: Form | None = None
    """Where the standard variables write the value in another way than the file."""
    secret: bool = False
    """Not to be printed."""


Port = Annotated[int, Meta(ge=1, le=65535)]
Pid = Annotated[int, Meta(ge=1, le=1 << 22)]


class Filters(msgspec.Struct, frozen=True):
    """Which connections are traced; within a setting any match is enough, across settings all must match."""

    ports: Annotated[
        tuple[Port, ...],
        Meta(
            description="Trace only connections with one of these ports at either end; empty: every port.",
            max_length=64,
        ),
        Source(list_of(WHOLE), flag="--port"),
    ] = ()
    executables: Annotated[
        tuple[str, ...],
        Meta(
            description="Trace only processes whose executable's path matches one of these globs; empty: all.",
            max_length=64,
        ),
        Source(list_of(TEXT), flag="--exe"),
    ] = ()
    pids: Annotated[
        tuple[Pid, ...],
        Meta(description="Trace only these processes, by pid; empty: all.", max_length=1024),
        Source(list_of(WHOLE), flag="--pid"),
    ] = ()
    cgroups: Annotated[
        tuple[str, ...],
        Meta(
            description="Trace only processes in these cgroups or below, by path in /sys/fs/cgroup; empty: all.",
            max_length=64,
        ),
        Source(list_of(TEXT), flag="--cgroup"),
    ] = ()


class Capture(msgspec.Struct, frozen=True):
    """What the probes copy and where they put it."""

    tier: Annotated[
        str,
        Meta(
            description="The probes' technique; auto takes kprobe where the kernel has kprobes, otherwise tracepoint."
        ),
        Source(choice("auto", "kprobe", "tracepoint"), flag="--tier"),
    ] = "auto"
    tls: Annotated[
        bool,
        Meta(description="Read the plain text of TLS where programs hand it to OpenSSL or GnuTLS (uprobes)."),
        Source(SWITCH),
    ] = True
    head_limit_bytes: Annotated[
        int,
        Meta(
            description="How much of a message's beginning is copied; a longer head gives a span that says so.",
            ge=256,
            le=32 * KIB,
        ),
        Source(SIZE),
    ] = 8 * KIB
    ring_bytes: Annotated[
        int,
        Meta(
            description="The ring buffer between kernel and collector, a power of two; locked memory.",
            ge=64 * KIB,
            le=2 * GIB,
        ),
        Source(SIZE),
    ] = 64 * MIB
    sockets: Annotated[
        int,
        Meta(
            description="How many sockets the kernel's table holds; beyond that connections are counted as not seen.",
            ge=1024,
            le=1 << 22,
        ),
        Source(WHOLE),
    ] = 65536
    duration_seconds: Annotated[
        float,
        Meta(description="Stop by itself after this time; 0: run until a signal comes.", ge=0, le=366 * 86400),
        Source(SECONDS, flag="--duration"),
    ] = 0.0


class Limits(msgspec.Struct, frozen=True):
    """Bounds of what the collector keeps in memory; what falls out is counted, with the reason `evicted`."""

    connections: Annotated[
        int,
        Meta(
            description="How many connections are followed at once; beyond it the longest idle one goes.",
            ge=16,
            le=1 << 22,
        ),
        Source(WHOLE),
    ] = 65536
    pending_exchanges: Annotated[
        int,
        Meta(description="How many requests of one connection may wait for their responses.", ge=1, le=65536),
        Source(WHOLE),
    ] = 1024
    head_bytes: Annotated[
        int,
        Meta(
            description="The longest head a parser gathers, over however many reads it arrives.", ge=1 * KIB, le=1 * MIB
        ),
        Source(SIZE),
    ] = 64 * KIB


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


class Redaction(msgspec.Struct, frozen=True):
    """What leaves the host. Bodies, user info in URLs and headers not named here never do."""

    query_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="Query keys whose values become REDACTED; words of a longer key (access_token) count.",
            max_length=256,
        ),
        Source(list_of(TEXT)),
    ] = (
        "awsaccesskeyid",
        "signature",
        "sig",
        "x-goog-signature",
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "token",
        "secret",
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "apikey",
        "api_key",
        "key",
        "auth",
        "authorization",
        "credential",
        "credentials",
        "session",
        "sessionid",
        "jsessionid",
        "phpsessid",
        "sid",
        "jwt",
        "bearer",
        "code",
        "otp",
        "assertion",
        "ticket",
    )
    request_headers: Annotated[
        tuple[str, ...],
        Meta(description="Request headers reported as http.request.header.NAME; empty: none.", max_length=64),
        Source(list_of(HEADER)),
    ] = ()
    response_headers: Annotated[
        tuple[str, ...],
        Meta(description="Response headers reported as http.response.header.NAME; empty: none.", max_length=64),
        Source(list_of(HEADER)),
    ] = ()


class Resource(msgspec.Struct, frozen=True):
    """What every span's resource says besides what is read from its process."""

    attributes: Annotated[
        dict[str, str],
        Meta(
            description="Attributes added to every resource; a process's own OTEL_RESOURCE_ATTRIBUTES wins.",
            max_length=64,
        ),
        Source(PAIRS, variables=("OTEL_RESOURCE_ATTRIBUTES",)),
    ] = {}


class Health(msgspec.Struct, frozen=True):
    """The collector's own state: /metrics, /healthz, /readyz."""

    listen: Annotated[
        str,
        Meta(description="Where the health server listens, HOST:PORT, or off."),
        Source(ADDRESS, flag="--listen"),
    ] = "127.0.0.1:9464"


class Log(msgspec.Struct, frozen=True):
    """What the collector says about itself, on standard error."""

    level: Annotated[
        str,
        Meta(description="The least important message that is written."),
        Source(choice("debug", "info", "warn", "error"), variables=("OTEL_LOG_LEVEL",)),
    ] = "info"


class Privileges(msgspec.Struct, frozen=True):
    """What the collector keeps of its rights once the probes are attached."""

    drop: Annotated[
        bool,
        Meta(description="Give up every capability that reading the ring and /proc does not need."),
        Source(SWITCH),
    ] = True


class Settings(msgspec.Struct, frozen=True):
    """All of them."""

    filters: Filters = Filters()
    capture: Capture = Capture()
    limits: Limits = Limits()
    export: Export = Export()
    otlp: Otlp = Otlp()
    sampling: Sampling = Sampling()
    redaction: Redaction = Redaction()
    resource: Resource = Resource()
    health: Health = Health()
    log: Log = Log()
    privileges: Privileges = Privileges()
