"""gRPC spans by the semantic conventions for RPC, release candidate of 1.44 (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).

That is what opentelemetry-semantic-conventions 0.66b2 publishes: `rpc.system.name`, the fully qualified name in
`rpc.method`, the status by its name in `rpc.response.status_code`; `rpc.system`, `rpc.service` and
`rpc.grpc.status_code` are deprecated there, and so not used here.

A status is what trailers, or a response of trailers only, say. Where none was sent, a client has the one that gRPC
makes of what happened instead (a reset, an HTTP status), as its documents say; where it could not be seen, none is
given, and `otelbpf.unknown` names it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from otelbpf.connections.address import Endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Message, StreamMessage
from otelbpf.tracing.conventions.http import (
    NO_HEADERS,
    SHAPING_HEADERS,
    Attribute,
    Attributes,
    NamedHeaders,
    ends_of,
    lacks,
    lacks_something,
    named,
)
from otelbpf.tracing.conventions.origin import is_unknown, path_and_query
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.span import NOTHING_SHARED, AttributeSet, AttributeValue, Kind, Status

SYSTEM: Final = "grpc"
OTHER_METHOD: Final = "_OTHER"
CONTENT_TYPE: Final = "application/grpc"
"""What the content types of gRPC and of gRPC-Web begin with."""

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAVAILABLE = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
    "UNAVAILABLE",
)
STATUSES: Final = (
    OK,
    CANCELLED,
    UNKNOWN,
    "INVALID_ARGUMENT",
    DEADLINE_EXCEEDED,
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    UNIMPLEMENTED,
    "INTERNAL",
    UNAVAILABLE,
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""By number: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md"""
_BY_NUMBER: Final = {text: name for number, name in enumerate(STATUSES) for text in (str(number), f"{number:02}")}
"""As trailers write it."""
_LONGEST_KEPT: Final = 256
"""Longer targets are taken apart each time: no method has one, and what a stranger sends is to take no memory."""

_SERVER_ERRORS: Final = frozenset((UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, "INTERNAL", UNAVAILABLE, "DATA_LOSS"))
"""Those that are an error to the server too; to a client all but OK are."""

_OF_RESET: Final = {
    "NO_ERROR": "INTERNAL",
    "PROTOCOL_ERROR": "INTERNAL",
    "INTERNAL_ERROR": "INTERNAL",
    "FLOW_CONTROL_ERROR": "INTERNAL",
    "FRAME_SIZE_ERROR": "INTERNAL",
    "COMPRESSION_ERROR": "INTERNAL",
    "CONNECT_ERROR": "INTERNAL",
    "REFUSED_STREAM": UNAVAILABLE,
    "CANCEL": CANCELLED,
    "ENHANCE_YOUR_CALM": "RESOURCE_EXHAUSTED",
    "INADEQUATE_SECURITY": "PERMISSION_DENIED",
}
"""By error code of RST_STREAM: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, section Errors"""

_OF_HTTP: Final = {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
"""https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md; all others are UNKNOWN."""

_TIMEOUT: Final = re.compile("([0-9]{1,8})([HMSmun])")
_UNITS_NS: Final = {"H": 3_600_000_000_000, "M": 60_000_000_000, "S": 1_000_000_000, "m": 1_000_000, "u": 1000, "n": 1}
_ROUNDED_UP: Final = 0.02
"""How much longer than the deadline a client may say that it is: it sends few digits, rounded up."""
_SLACK_NS: Final = 50_000_000
"""And how much earlier the end may come, by the time from the setting of the deadline until the request was written and
read (a first call that connects takes 16 ms in between): at most this, and a quarter of what was allowed. Deadlines end
calls often and cancellations so shortly before them hardly ever: those are taken for deadlines."""


# Python 3.11 takes ten times as long for a member of an enum as for a name.
_SERVER: Final = Kind.SERVER
_UNSET: Final = Status.UNSET


class Call:
    """What makes a span of an exchange that of a call."""

    __slots__ = ("code", "error_type", "method", "status")

    def __init__(self, method: str, code: str, status: Status, error_type: str) -> None:
        self.method = method
        """rpc.method; empty where it is not known."""
        self.code = code
        """rpc.response.status_code; empty where there is none, or none that is known."""
        self.status = status
        self.error_type = error_type

    @property
    def span_name(self) -> str:
        """`{rpc.method}`, or the name of the system where that is not to be had."""
        return self.method if self.method and self.method != OTHER_METHOD else SYSTEM


def read(exchange: Exchange, kind: Kind) -> Call | None:
    """The call that an exchange is, of gRPC or gRPC-Web; None where it is another request."""
    request, response = exchange.request, exchange.response
    content_type = request.headers.get("content-type")
    if content_type is None and response is not None and is_unknown(request, "content-type"):
        content_type = response.headers.get("content-type")
    if content_type is None or not content_type.startswith(CONTENT_TYPE):
        return None
    code = _status_code(exchange, kind)
    method = _method_of(request)
    if not code:
        status, error_type = (Status.ERROR, exchange.error) if exchange.error else (_UNSET, "")
    elif code == OK or (kind is _SERVER and code not in _SERVER_ERRORS):
        status, error_type = _UNSET, ""
    else:
        status, error_type = Status.ERROR, code
    # A server that does not know a method says so.
    return Call(
        OTHER_METHOD if method and kind is _SERVER and code == UNIMPLEMENTED else method, code, status, error_type
    )


class Calls:
    """The attributes of one connection's calls."""

    __slots__ = ("_endpoints", "_headers", "_named", "_secured", "_seen", "_shaping", "_shared")

    def __init__(
        self, endpoints: Endpoints, named: NamedHeaders = NO_HEADERS, *, secured: tuple[Attribute, ...] = ()
    ) -> None:
        """`secured`: what is told of TLS, where the messages went through it."""
        # What the last call's shared attributes were made of.
        self._headers: dict[str, str] | None = None
        self._seen: tuple[bool, str, frozenset[str]] | None = None
        self._endpoints = endpoints
        self._secured = secured
        self._named = named
        self._shaping: list[object] = []
        self._shared = NOTHING_SHARED

    def describe(
        self, exchange: Exchange, call: Call, redactor: Redactor
    ) -> tuple[tuple[tuple[str, AttributeValue], ...], AttributeSet]:
        """The attributes of a call's own and those it shares with others of the connection."""
        request, response = exchange.request, exchange.response
        found: Attributes = []
        if call.method:
            found.append(("rpc.method", call.method))
            if call.method == OTHER_METHOD:
                found.append(("rpc.method_original", _method_of(request)))
        if call.code:
            found.append(("rpc.response.status_code", call.code))
        _measure(found, request, _OF_REQUEST)
        if response is not None:
            if response.status != 200 and response.status:
                found.append(("http.response.status_code", response.status))
            _measure(found, response, _OF_RESPONSE)
            found.append(("otelbpf.time_to_first_byte_ns", exchange.response_first_ns - exchange.request_first_ns))
        if exchange.error and exchange.error != call.error_type:
            found.append(("otelbpf.reset", exchange.error))
        if not call.code and response is not None and not exchange.error and response.status in (0, 200):
            found += lacks(exchange, "grpc-status")
        elif lacks_something(exchange):
            found += lacks(exchange)
        if call.error_type:
            found.append(("error.type", call.error_type))
        if self._named is not NO_HEADERS:
            found += named("rpc.request.metadata", self._named.request, request.headers, redactor)
            if response is not None:
                fields = {**response.headers, **response.trailers}
                found += named("rpc.response.metadata", self._named.response, fields, redactor)
        return tuple(found), self._share(exchange)

    def _share(self, exchange: Exchange) -> AttributeSet:
        request = exchange.request
        headers = request.headers
        seen = (exchange.serving, request.version, request.unknown)
        if headers is self._headers and seen == self._seen:
            return self._shared
        # Kept here, so that no other can take its place: the same object is the same fields.
        self._headers, self._seen = headers, seen
        shaping: list[object] = [
            exchange.serving,
            request.version,
            is_unknown(request, ":authority"),
            *map(headers.get, _SHAPING),
        ]
        if shaping != self._shaping:
            self._shaping = shaping
            found: Attributes = [
                ("rpc.system.name", SYSTEM),
                ("network.protocol.name", "http"),
                ("network.protocol.version", request.version),
            ]
            self._shared = AttributeSet(
                (*found, *ends_of(exchange, self._endpoints, "https" if self._secured else "http"), *self._secured)
            )
        return self._shared


_SHAPING: Final = (":scheme", *SHAPING_HEADERS)


_OF_REQUEST: Final = ("otelbpf.rpc.request.messages", "http.request.body.size")
_OF_RESPONSE: Final = ("otelbpf.rpc.response.messages", "http.response.body.size")


def _measure(found: Attributes, message: Message, names: tuple[str, str]) -> None:
    """How many messages, and how many bytes."""
    if message.parts >= 0:
        found.append((names[0], message.parts))
    if message.body_size >= 0:
        found.append((names[1], message.body_size))


def _method_of(request: Message) -> str:
    target = request.target
    return _remembered_method(target) if len(target) <= _LONGEST_KEPT else _method(target)


def _method(target: str) -> str:
    return path_and_query(target)[0].removeprefix("/")


_remembered_method = lru_cache(4096)(_method)


def _status_code(exchange: Exchange, kind: Kind) -> str:
    response = exchange.response
    if response is not None:
        number = response.trailers.get("grpc-status") or response.headers.get("grpc-status")
        if number is not None:
            return _BY_NUMBER.get(number, UNKNOWN)
    if exchange.error:
        code = _OF_RESET.get(exchange.error, "")
        may_be_late = code == CANCELLED or not isinstance(exchange.request, StreamMessage)
        return DEADLINE_EXCEEDED if may_be_late and _deadline_passed(exchange) else code
    if response is None or kind is _SERVER or response.status in (0, 200):
        return ""
    return _OF_HTTP.get(response.status, UNKNOWN)


def _deadline_passed(exchange: Exchange) -> bool:
    """A client whose deadline passes cancels the stream, or closes the connection of HTTP/1, and says no more
    than that."""
    match = _TIMEOUT.fullmatch(exchange.request.headers.get("grpc-timeout", ""))
    if match is None:
        return False
    allowed = int(match[1]) * _UNITS_NS[match[2]]
    ended = max(exchange.request_last_ns, exchange.response_last_ns)
    slack = min(_SLACK_NS, allowed // 4)
    return ended - exchange.request_first_ns >= allowed * (1 - _ROUNDED_UP) - slack
