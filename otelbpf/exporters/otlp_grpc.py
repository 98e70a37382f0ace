"""OTLP over gRPC: what each answer means for the batch.

https://opentelemetry.io/docs/specs/otlp/#failures: the codes below ask for another try; RESOURCE_EXHAUSTED does so only
with a RetryInfo, which also says when. A message beyond the receiver's limit is RESOURCE_EXHAUSTED as well, in every
implementation, and only its text tells.
"""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelbpf.exporters.base import Delivered, Outcome, Refused, TooLarge, Unavailable
from otelbpf.exporters.official import GrpcCarrier

_RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_RECONNECT = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})
_TOO_LARGE = ("larger than max", "exceeds maximum", "too large")
"""grpc-go and the C core; grpc-java; others."""


class GrpcSender:
    """One call a batch."""

    def __init__(self, carrier: GrpcCarrier) -> None:
        self._carrier = carrier

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        """One attempt."""
        try:
            answer = self._carrier.call(payload, timeout_seconds)
        except grpc.RpcError as error:
            outcome = _failure(error)
            if error.code() in _RECONNECT:
                self._carrier.reconnect()
            return outcome
        try:
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
        except DecodeError:
            # Who answers OK with something else has taken the batch all the same.
            return Delivered()
        return Delivered(partial.rejected_spans, partial.error_message)

    def close(self) -> None:
        """Close the channel; a call on another thread fails at once."""
        self._carrier.close()


def _failure(error: grpc.RpcError) -> Outcome:
    code, details = error.code(), error.details() or ""
    reason = f"{code.name}: {details}".rstrip(": ")
    after_seconds = _retry_after_seconds(error)
    if code in _RETRYABLE:
        return Unavailable(reason, after_seconds)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if after_seconds is not None:
            return Unavailable(reason, after_seconds)
        if any(words in details for words in _TOO_LARGE):
            return TooLarge(reason)
    return Refused(reason)


def _retry_after_seconds(error: grpc.RpcError) -> float | None:
    """From the RetryInfo among the details of the answer's google.rpc.Status."""
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:
            return None
    return None
