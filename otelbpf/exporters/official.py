"""OpenTelemetry's own OTLP exporters as plain carriers of bytes: their endpoint, headers, TLS, proxies, compression.

They are constructed as everywhere, so every OTEL_EXPORTER_OTLP_* variable means what it means everywhere; then one
attempt at a time is made through what lies beneath their `export`, because our spans are encoded already and our queue
does the waiting. That layer is private to opentelemetry-exporter-otlp-proto-grpc and -http (`_channel`,
`_initialize_channel_and_stub`, `_headers`, `_client._compress`, `_client._submit`, `_extract_retry_after`): nothing
outside of this file may touch it, and tests/exporters/test_official.py fails by name when one of them goes.

Both libraries are imported on first use: gRPC alone costs 0.3 s and 10 MB.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from opentelemetry.exporter.http.transport._base import BaseHTTPResult

# gRPC reads this when it is first imported, by whomever: without it its core writes each failed handshake to standard
# error, past every rate limit. Who asked for its log gets it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class TlsFiles(msgspec.Struct, frozen=True):
    """What OTEL_EXPORTER_OTLP[_TRACES]_CERTIFICATE, …_CLIENT_KEY and …_CLIENT_CERTIFICATE name."""

    authority: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None


@contextmanager
def _standing_in(environment: Mapping[str, str]) -> Iterator[None]:
    """Let this environment's OTEL_* stand in for the process's own, which is all that the libraries read. Empty is
    unset (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#parsing-empty-value)."""
    before = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    for name in before:
        del os.environ[name]
    wanted = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_") and value.strip()}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            os.environ.pop(name, None)
        os.environ.update(before)


class HttpCarrier:
    """OTLP over HTTP, one POST at a time."""

    def __init__(self, environment: Mapping[str, str], *, content_type: str) -> None:
        import requests  # noqa: PLC0415
        from opentelemetry.exporter.otlp.common.http import _extract_retry_after  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        class Session(requests.Session):
            """Does not let REQUESTS_CA_BUNDLE overrule OTEL_EXPORTER_OTLP_CERTIFICATE, as requests would."""

            def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
                settings = super().merge_environment_settings(*args, **kwargs)
                if self.verify is not True:
                    settings["verify"] = self.verify
                return settings

        with _standing_in(environment):
            self._exporter: Any = OTLPSpanExporter(headers={"content-type": content_type}, session=Session())
        self._retry_after = _extract_retry_after

    def post(self, body: bytes, timeout_seconds: float) -> BaseHTTPResult:
        """One POST of these bytes, compressed as configured; a connection that turns out stale is made anew once."""
        client = self._exporter._client
        result: BaseHTTPResult = client._submit(client._compress(body), timeout_seconds)
        return result

    def retry_after_seconds(self, result: BaseHTTPResult) -> float | None:
        """What the answer's Retry-After asks for, be it seconds or a date."""
        return self._retry_after(result)

    def close(self) -> None:
        """Close the connections."""
        self._exporter.shutdown()


class GrpcCarrier:
    """OTLP over gRPC, one call at a time."""

    def __init__(self, environment: Mapping[str, str], *, compression: str, tls: TlsFiles, method: str) -> None:
        """`method` is the call that takes the requests."""
        self._method = method
        from grpc import Compression, ssl_channel_credentials  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        codes = {"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}
        # The library reads a client certificate only beside an authority; standing alone it counts as well.
        credentials = None
        if tls != TlsFiles():
            credentials = ssl_channel_credentials(
                _content(tls.authority), _content(tls.client_key), _content(tls.client_certificate)
            )
        with _standing_in(environment):
            self._exporter: Any = OTLPSpanExporter(compression=codes[compression], credentials=credentials)
        self._lock = threading.Lock()
        self._closed = False
        self._call = self._bytes_call()

    def _bytes_call(self) -> Any:
        return self._exporter._channel.unary_unary(self._method)

    def call(self, request: bytes, timeout_seconds: float) -> bytes:
        """One Export call; bytes in, bytes out. Raises grpc.RpcError."""
        answer: bytes = self._call(request, timeout=timeout_seconds, metadata=self._exporter._headers)
        return answer

    def reconnect(self) -> None:
        """Start over with a new connection at the next call. A channel that lost its server may otherwise sit on a dead
        connection for a quarter of an hour, or wait by a backoff of its own."""
        with self._lock:
            if not self._closed:
                self._exporter._channel.close()
                self._exporter._initialize_channel_and_stub()
                self._call = self._bytes_call()

    def close(self) -> None:
        """Close the channel; a call on another thread fails at once."""
        with self._lock:
            self._closed = True
            self._exporter.shutdown()


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
