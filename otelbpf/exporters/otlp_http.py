"""OTLP over HTTP: what each answer means for the batch.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: 2xx is success, possibly partial; 429, 502, 503 and 504 ask
for another try, after Retry-After when given; anything else will not change by trying again. 413 says the batch was too
large, so that a smaller one may pass.
"""

from __future__ import annotations

import msgspec
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.http.transport._base import BaseHTTPResult
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelbpf.exporters.base import Delivered, Outcome, Refused, TooLarge, Unavailable
from otelbpf.exporters.official import HttpCarrier
from otelbpf.telemetry.log import printable

_RETRYABLE = frozenset({429, 502, 503, 504})


class HttpSender:
    """One POST a batch."""

    def __init__(self, carrier: HttpCarrier) -> None:
        self._carrier = carrier

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        """One attempt."""
        result = self._carrier.post(payload, timeout_seconds)
        if result.status_code is None:
            return Unavailable(_cause(result.error))
        if 200 <= result.status_code < 300:
            return _partial_success(result)
        reason = f"HTTP {result.status_code} {result.reason or ''}: {_explanation(result)}".rstrip(": ")
        if result.status_code in _RETRYABLE:
            return Unavailable(reason, self._carrier.retry_after_seconds(result))
        return TooLarge(reason) if result.status_code == 413 else Refused(reason)

    def close(self) -> None:
        """Close the connections."""
        self._carrier.close()


def _is_json(result: BaseHTTPResult) -> bool:
    return result.headers().get("content-type", "").lower().startswith("application/json")


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: int = 0
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _PartialSuccess | None = None


def _partial_success(result: BaseHTTPResult) -> Delivered:
    # Who answers 2xx with something else has taken the batch all the same.
    try:
        if _is_json(result):
            partial = msgspec.json.decode(result.content(), type=_Response, strict=False).partial_success
            return Delivered(partial.rejected_spans, partial.error_message) if partial else Delivered()
        response = ExportTraceServiceResponse.FromString(result.content())
    except (msgspec.DecodeError, DecodeError):
        return Delivered()
    return Delivered(response.partial_success.rejected_spans, response.partial_success.error_message)


def _explanation(result: BaseHTTPResult) -> str:
    """The answer's own words: a google.rpc.Status, or the beginning of whatever it is."""
    content = result.content()
    if not _is_json(result):
        try:
            if message := Status.FromString(content).message:
                return str(message)
        except DecodeError:
            pass
    return printable(content[:200].decode(errors="replace").strip())


def _cause(error: BaseException | None) -> str:
    """The innermost reason: requests wraps urllib3, which wraps the socket's error."""
    seen = 0
    while error is not None and seen < 8:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error, seen = inner, seen + 1
    return f"{type(error).__name__}: {error}"
