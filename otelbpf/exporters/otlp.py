"""The OTLP exporter's settings, read and checked before anything is sent.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/: OTEL_EXPORTER_OTLP_TRACES_<NAME> goes before
OTEL_EXPORTER_OTLP_<NAME>, and empty means unset. Where the official Python exporters differ from that page or are
silent about a mistake, this is what holds here:

- Without a PROTOCOL, an endpoint on port 4317 is spoken to in gRPC and every other one in http/protobuf.
- TIMEOUT is in milliseconds, as the page says (the official Python exporters read seconds).
- A certificate that cannot be read, an unknown protocol or compression, a malformed endpoint or header end the start
  with one line; they do not fall back to something less safe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from urllib.parse import unquote, urlsplit

import msgspec

from otelbpf.errors import ConfigError
from otelbpf.exporters.base import Encoder, Sender
from otelbpf.exporters.encode import ProtobufEncoder
from otelbpf.exporters.json import JsonEncoder
from otelbpf.exporters.official import GrpcCarrier, HttpCarrier, TlsFiles

_PROTOCOLS = ("grpc", "http/protobuf", "http/json")
_COMPRESSIONS = ("none", "gzip", "deflate")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.6.2, token"""
_HEADER_VALUE = re.compile(r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
"""Printable ASCII but for quote, comma, semicolon and backslash: what the official exporters read"""
_GRPC_PORT = 4317
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_DEFAULT_TIMEOUT_MS = 10_000


class OtlpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says about the OTLP exporter."""

    protocol: str
    destination: str
    """Where it goes, for people: no credentials."""
    compression: str
    timeout_seconds: float
    tls: TlsFiles


def find(environment: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """The variable that holds for traces, and its value."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := environment.get(variable, "").strip():
            return variable, value
    return None


def read_settings(environment: Mapping[str, str]) -> OtlpSettings:
    """The settings, or a ConfigError that names the variable."""
    endpoint = find(environment, "ENDPOINT")
    protocol = _one_of(environment, "PROTOCOL", _PROTOCOLS)
    if protocol is None:
        protocol = "grpc" if endpoint and _port(*endpoint) == _GRPC_PORT else "http/protobuf"
    if endpoint:
        destination = _checked_endpoint(*endpoint, protocol)
    else:
        destination = "http://localhost:4317" if protocol == "grpc" else "http://localhost:4318/v1/traces"
    _check_headers(environment)
    return OtlpSettings(
        protocol=protocol,
        destination=destination,
        compression=_one_of(environment, "COMPRESSION", _COMPRESSIONS) or "none",
        timeout_seconds=_timeout_seconds(environment),
        tls=_tls_files(environment, protocol),
    )


def open_otlp(settings: OtlpSettings, *, environment: Mapping[str, str], version: str) -> tuple[Encoder, Sender]:
    """The two parts of an OTLP exporter of spans."""
    sender = open_sender(settings, environment=environment, signal=TRACES)
    if settings.protocol == "http/json":
        return JsonEncoder(version=version, line_end=b""), sender
    return ProtobufEncoder(version=version), sender


def open_sender(settings: OtlpSettings, *, environment: Mapping[str, str], signal: str) -> Sender:
    """Who carries the requests of a signal. The transport's libraries are imported here."""
    # The libraries would read these again, with other units and fewer values.
    names = [f"OTEL_EXPORTER_OTLP_{traces}{name}" for traces in ("", "TRACES_") for name in ("TIMEOUT", "COMPRESSION")]
    rest = {name: value for name, value in environment.items() if name not in names}
    if settings.protocol == "grpc":
        from otelbpf.exporters.otlp_grpc import GrpcSender  # noqa: PLC0415

        carrier = GrpcCarrier(rest, compression=settings.compression, tls=settings.tls, method=signal)
        return GrpcSender(carrier)
    from otelbpf.exporters.otlp_http import HttpSender  # noqa: PLC0415

    rest["OTEL_EXPORTER_OTLP_COMPRESSION"] = settings.compression
    kind = "json" if settings.protocol == "http/json" else "x-protobuf"
    return HttpSender(HttpCarrier(rest, content_type=f"application/{kind}"))


def _one_of(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    found = find(environment, name)
    if found is None:
        return None
    variable, value = found
    if value.lower() in choices:
        return value.lower()
    nearest = get_close_matches(value.lower(), choices, n=1, cutoff=0.3)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ConfigError(f"{variable} is {value!r}", f"{hint}known: {', '.join(choices)}")


def _split(variable: str, endpoint: str) -> tuple[str, str, int | None]:
    """Scheme, host and port; the scheme is empty for `host:port`."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        return parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{variable} is {endpoint!r}: {error}", "write it like http://jaeger:4317") from error


def _port(variable: str, endpoint: str) -> int | None:
    return _split(variable, endpoint)[2]


def _checked_endpoint(variable: str, endpoint: str, protocol: str) -> str:
    """The endpoint as people may read it."""
    scheme, host, port = _split(variable, endpoint)
    allowed = ("http", "https", "") if protocol == "grpc" else ("http", "https")
    # gRPC has names of its own for targets: unix:///run/collector.sock, dns:///collector:4317
    if protocol == "grpc" and scheme in ("unix", "unix-abstract", "dns", "ipv4", "ipv6", "xds"):
        return endpoint
    if scheme not in allowed or not host:
        raise ConfigError(f"{variable} is {endpoint!r}", "write it like http://jaeger:4317 or https://collector:4318")
    if protocol == "grpc" and "@" in urlsplit(endpoint).netloc:
        raise ConfigError(f"{variable} has a user in it, which gRPC does not send", "use OTEL_EXPORTER_OTLP_HEADERS")
    path = ""
    if protocol != "grpc":
        path = urlsplit(endpoint).path
        if variable == "OTEL_EXPORTER_OTLP_ENDPOINT":
            path = path.removesuffix("/") + "/v1/traces"
    name = f"[{host}]" if ":" in host else host
    return f"{scheme + '://' if scheme else ''}{name}{f':{port}' if port is not None else ''}{path}"


def _check_headers(environment: Mapping[str, str]) -> None:
    """Every header can be sent as it stands. Values may be secrets and are not repeated."""
    found = find(environment, "HEADERS")
    if found is None:
        return
    variable, value = found
    for number, entry in enumerate(value.split(","), 1):
        name, equals, content = entry.strip().partition("=")
        if not entry.strip():
            continue
        if not equals or not _HEADER_NAME.fullmatch(name.strip()):
            raise ConfigError(
                f"{variable}: entry {number} is not name=value", "write it like api-key=secret,tenant=shop"
            )
        if not _HEADER_VALUE.fullmatch(content) or not re.fullmatch(r"[\x20-\x7e]*", unquote(content)):
            raise ConfigError(f"{variable}: the value of {name.strip()!r} cannot be sent", "percent-encode it")


def _timeout_seconds(environment: Mapping[str, str]) -> float:
    found = find(environment, "TIMEOUT")
    if found is None:
        return _DEFAULT_TIMEOUT_MS / 1000
    variable, value = found
    if not value.isdecimal() or int(value) == 0:
        raise ConfigError(f"{variable} is {value!r}", "give a number of milliseconds, like 10000")
    return int(value) / 1000


def _tls_files(environment: Mapping[str, str], protocol: str) -> TlsFiles:
    paths: dict[str, str | None] = {}
    for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        found = find(environment, name)
        paths[name] = found[1] if found else None
        if found:
            try:
                with open(found[1], "rb"):
                    pass
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise ConfigError(f"{found[0]}: cannot read {found[1]!r}: {reason}", "name a PEM file") from error
    if paths["CLIENT_KEY"] and not paths["CLIENT_CERTIFICATE"]:
        raise ConfigError("OTEL_EXPORTER_OTLP_CLIENT_KEY stands alone", "give CLIENT_CERTIFICATE too")
    if protocol == "grpc" and paths["CLIENT_CERTIFICATE"] and not paths["CLIENT_KEY"]:
        raise ConfigError("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE stands alone", "give CLIENT_KEY too")
    return TlsFiles(paths["CERTIFICATE"], paths["CLIENT_KEY"], paths["CLIENT_CERTIFICATE"])
