"""Real OTLP collectors on loopback, gRPC and HTTP, that answer by a script and remember what they kept."""

from __future__ import annotations

import gzip
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.exporters.sample import numbers


class Seen:
    """What a collector saw: every attempt, and the numbers of the spans it kept."""

    def __init__(self) -> None:
        self.attempts: list[list[int]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.kept: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.release = threading.Event()
        """Lets answers go that hang."""


class GrpcAnswer(msgspec.Struct, frozen=True):
    """One answer to an Export call."""

    code: str = "OK"
    details: str = ""
    retry_delay_seconds: float | None = None
    rejected: int = 0
    message: str = ""
    hangs: bool = False
    body: bytes | None = None


class HttpAnswer(msgspec.Struct, frozen=True):
    """One answer to a POST."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = "application/x-protobuf"
    hangs: bool = False
    hangs_up: bool = False


def partial(rejected: int, message: str) -> bytes:
    """The body of a partial success."""
    success = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=success).SerializeToString()


def rpc_status(message: str, retry_delay_seconds: float | None = None) -> bytes:
    """A google.rpc.Status, with a RetryInfo when a delay is given."""
    details = []
    if retry_delay_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_delay_seconds * 1e9))
        packed = AnyMessage()
        packed.Pack(RetryInfo(retry_delay=delay))
        details.append(packed)
    status: bytes = Status(message=message, details=details).SerializeToString()
    return status


@contextmanager
def grpc_collector(
    *script: GrpcAnswer, port: int = 0, credentials: Any = None, largest_bytes: int = 4 << 20
) -> Iterator[tuple[int, Seen]]:
    """A gRPC TraceService on loopback; yields its port and what it sees."""
    seen, answers = Seen(), list(script)

    def export(body: bytes, call: Any) -> bytes:
        request = ExportTraceServiceRequest.FromString(body)
        seen.headers.append({key: value for key, value in call.invocation_metadata() if isinstance(value, str)})
        seen.attempts.append(numbers(request))
        answer = answers.pop(0) if answers else GrpcAnswer()
        seen.arrived.release()
        if answer.hangs:
            seen.release.wait(30)
        if answer.code != "OK":
            if answer.retry_delay_seconds is not None:
                detail = rpc_status(answer.details, answer.retry_delay_seconds)
                call.set_trailing_metadata((("grpc-status-details-bin", detail),))
            call.abort(grpc.StatusCode[answer.code], answer.details)
        seen.kept += numbers(request)
        return partial(answer.rejected, answer.message) if answer.body is None else answer.body

    handler = grpc.unary_unary_rpc_method_handler(export)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", largest_bytes)]
    pool = futures.ThreadPoolExecutor(4)
    server = grpc.server(pool, options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield bound, seen
    finally:
        seen.release.set()
        server.stop(0).wait()
        pool.shutdown()


def protobuf_numbers(body: bytes) -> list[int]:
    """The numbers of the spans in a request's body."""
    return numbers(ExportTraceServiceRequest.FromString(body))


def _decompressed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "deflate":
            return zlib.decompress(body)
        case _:
            return body


@contextmanager
def http_collector(
    *script: HttpAnswer,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    parse: Callable[[bytes], list[int]] = protobuf_numbers,
) -> Iterator[tuple[int, Seen]]:
    """An HTTP collector on loopback; yields its port and what it sees."""
    seen, answers = Seen(), list(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            spans = parse(_decompressed(body, self.headers.get("content-encoding", "")))
            seen.paths.append(self.path)
            seen.headers.append({key.lower(): value for key, value in self.headers.items()})
            seen.attempts.append(spans)
            answer = answers.pop(0) if answers else HttpAnswer()
            seen.arrived.release()
            if answer.hangs:
                seen.release.wait(30)
            if answer.hangs or answer.hangs_up:
                self.close_connection = True
                return
            if answer.status == 200:
                seen.kept.extend(spans)
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients may hang up and refuse our certificate."""

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        seen.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
