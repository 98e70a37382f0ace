"""HTTP spans by the stable semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).

Attribute names, which of them a kind of span has, and the rules of status and error.type are the conventions'; the
attributes that begin with `otelbpf.` are ours and say what only a tracer beside the road can know.

A client sends the same headers again and again over a connection, so what follows from them is made once and shared.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Final

from otelbpf.connections.address import Endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Incomplete, Message, StreamMessage
from otelbpf.tracing.conventions.origin import (
    asks_tunnel,
    authority_of,
    default_port,
    forwarded_client,
    forwarded_host,
    forwarded_scheme,
    is_unknown,
    path_and_query,
)
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.routes import Route, Tree
from otelbpf.tracing.span import NOTHING_SHARED, AttributeSet, AttributeValue, Kind, Status

METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
"""http.request.method knows these (RFC 9110, RFC 5789, draft-ietf-httpbis-safe-method-w-body), unless others
are asked for; any other is _OTHER."""
OTHER_METHOD: Final = "_OTHER"

SHAPING_HEADERS: Final = ("host", "user-agent", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
"""Those that shared attributes are made from."""
WANTED_HEADERS: Final = frozenset(
    (
        *SHAPING_HEADERS,
        ":scheme",
        "traceparent",
        "tracestate",
        "upgrade",
        "content-length",
        "content-type",
        "grpc-status",
        "grpc-timeout",
    )
)
"""Headers the attributes are made from; and those by which a connection becomes one of HTTP/2, and content is whole."""

_FINE: Final = (Status.UNSET, "")

Attribute = tuple[str, AttributeValue]
Attributes = list[tuple[str, AttributeValue]]
_LONGEST_HOST: Final = 256
_NOT_PLAIN: Final = re.compile("[?#;@%]")  # more than a path, or one that a secret may stand in


def span_name(request: Message, methods: Container[str] = METHODS) -> str:
    """`{method}`, where no route is known; HTTP for unknown methods."""
    return request.method if request.method in methods else "HTTP"


def status(exchange: Exchange, kind: Kind) -> tuple[Status, str]:
    """Span status and error.type: 5xx is an error on both sides, 4xx only for the client that got it."""
    if exchange.error:
        return Status.ERROR, exchange.error
    response = exchange.response
    code = response.status if response is not None else 0
    if code < 400 or (code < 500 and kind is Kind.SERVER):
        return _FINE
    return Status.ERROR, str(code)


class NamedHeaders:
    """The headers that were asked for by name (lower case): `http.request.header.NAME`, `http.response.header.NAME`."""

    def __init__(self, request: Iterable[str] = (), response: Iterable[str] = ()) -> None:
        self.request = frozenset(request)
        self.response = frozenset(response)

    @property
    def wanted(self) -> frozenset[str]:
        """Every header a parser has to keep."""
        return WANTED_HEADERS | self.request | self.response

    def of_request(self, message: Message, redactor: Redactor) -> Attributes:
        """Those a request has."""
        return named("http.request.header", self.request, message.headers, redactor)

    def of_response(self, message: Message, redactor: Redactor) -> Attributes:
        """Those a response has."""
        return named("http.response.header", self.response, message.headers, redactor)


NO_HEADERS: Final = NamedHeaders()


def named_headers(request: Iterable[str], response: Iterable[str]) -> NamedHeaders:
    """The headers asked for; NO_HEADERS, which costs nothing, where none are."""
    return NamedHeaders(request, response) if request or response else NO_HEADERS


class Conversation:
    """The attributes of one connection's exchanges."""

    __slots__ = (
        "_base",
        "_headers",
        "_method",
        "_methods",
        "_named",
        "_secured",
        "_shaping",
        "_shared",
        "_version",
        "endpoints",
        "routes",
    )

    def __init__(
        self,
        endpoints: Endpoints,
        named: NamedHeaders = NO_HEADERS,
        *,
        secured: tuple[Attribute, ...] = (),
        methods: Container[str] = METHODS,
    ) -> None:
        """`secured`: what is told of TLS, where the messages went through it; `methods`: those that are known."""
        self.endpoints = endpoints
        self.routes: Tree | None = None
        """Those of the service that is asked."""
        self._secured = secured
        self._methods = methods
        self._named = named
        # What the last request of origin-form led to, and what it was.
        self._headers: dict[str, str] = {}
        self._method = self._version = ""
        self._shaping: list[str | None] = []
        self._base = ""
        self._shared = NOTHING_SHARED

    def describe(
        self, exchange: Exchange, redactor: Redactor, error_type: str, route: Route | None = None
    ) -> tuple[tuple[tuple[str, AttributeValue], ...], AttributeSet]:
        """The attributes of an exchange's own and those it shares with others of the connection."""
        request, response = exchange.request, exchange.response
        target = request.target
        if target.startswith("/"):
            if (
                request.headers is not self._headers
                or request.method != self._method
                or request.version != self._version
            ):
                self._renew(exchange)
            shared, base = self._shared, self._base
        else:
            shared, base = self._share(exchange)
        found = _served(target, redactor) if exchange.serving else _asked(target, base, redactor)
        if route is not None:
            found.append(route.server if exchange.serving else route.client)
        if request.body_size >= 0:
            found.append(("http.request.body.size", request.body_size))
        if response is not None:
            if response.status:
                found.append(("http.response.status_code", response.status))
            if response.body_size >= 0:
                found.append(("http.response.body.size", response.body_size))
            found.append(("otelbpf.time_to_first_byte_ns", exchange.response_first_ns - exchange.request_first_ns))
        if lacks_something(exchange):
            found += lacks(exchange)
        if error_type:
            found.append(("error.type", error_type))
        if self._named is not NO_HEADERS:
            found += self._named.of_request(request, redactor)
            if response is not None:
                found += self._named.of_response(response, redactor)
        return tuple(found), shared

    def asked(self, request: Message) -> str:
        """Whom a client asks: the host by its name, otherwise by its address."""
        _, host, port = authority_of(request, "")
        if not host or len(host) > _LONGEST_HOST:
            host, port = self.endpoints.remote_address, self.endpoints.remote_port
        return f"{host}:{port}"

    def _renew(self, exchange: Exchange) -> None:
        """Share anew where something differs that the shared attributes are made of. An instrumented client's headers
        are never the same (traceparent), and make the same attributes."""
        request = exchange.request
        self._headers, self._method, self._version = request.headers, request.method, request.version
        role = "server" if exchange.serving else "client"
        shaping = [role, request.method, request.version, *map(request.headers.get, SHAPING_HEADERS)]
        if isinstance(request, StreamMessage):
            shaping += (request.headers.get(":scheme"), *sorted(request.unknown))
        if shaping != self._shaping:
            self._shaping = shaping
            self._shared, self._base = self._share(exchange)

    def _share(self, exchange: Exchange) -> tuple[AttributeSet, str]:
        """What follows from the connection, the method and the headers; and for a client what url.full begins with,
        empty where that is not known."""
        request = exchange.request
        headers, method = request.headers, request.method
        found: Attributes = []
        if method:
            known = method in self._methods
            found.append(("http.request.method", method if known else OTHER_METHOD))
            if not known:
                found.append(("http.request.method_original", method))
        elif request.incomplete is Incomplete.MALFORMED:
            found.append(("http.request.method", OTHER_METHOD))
        scheme, host, port = authority_of(request, "https" if self._secured else "http")
        found += ends_of(exchange, self.endpoints, scheme)
        if exchange.serving:
            scheme = forwarded_scheme(headers) or scheme
        if scheme:
            found.append(("url.scheme", scheme))
        if request.version:
            found.append(("network.protocol.version", request.version))
        found += self._secured
        if not host and self.endpoints.is_known and not is_unknown(request, ":authority"):
            host, port = self.endpoints.remote_address, self.endpoints.remote_port
        if not scheme or not host:
            return AttributeSet(tuple(found)), ""
        authority = f"[{host}]" if ":" in host else host
        if port and port != default_port(request, scheme):
            authority = f"{authority}:{port}"
        # What a tunnel leads to has no scheme (RFC 3986 section 4.2, network-path reference).
        return AttributeSet(tuple(found)), f"//{authority}" if asks_tunnel(request) else f"{scheme}://{authority}"


def ends_of(exchange: Exchange, ends: Endpoints, default: str) -> Attributes:
    """Who speaks with whom: server.*, client.*, user_agent.original and network.*, as any request has. `default` is
    the scheme whose port counts where none is given."""
    request = exchange.request
    headers = request.headers
    scheme, host, port = authority_of(request, default)
    if exchange.serving:
        scheme = forwarded_scheme(headers) or scheme
        original, original_port = forwarded_host(headers)
        if original:
            host, port = original, original_port
    port = port or default_port(request, scheme)
    if not host and ends.is_known:
        host, port = (
            (ends.local_address, ends.local_port) if exchange.serving else (ends.remote_address, ends.remote_port)
        )
    found: Attributes = [("server.address", host)] if host else []
    if host and port:
        found.append(("server.port", port))
    if exchange.serving:
        client, client_port = forwarded_client(headers)
        if not client and ends.is_known:
            client, client_port = ends.remote_address, ends.remote_port
        if client:
            found.append(("client.address", client))
        if client and client_port:
            found.append(("client.port", client_port))
    if "user-agent" in headers:
        found.append(("user_agent.original", headers["user-agent"]))
    if ends.is_known:
        found += [
            ("network.peer.address", ends.remote_address),
            ("network.peer.port", ends.remote_port),
            ("network.local.address", ends.local_address),
            ("network.local.port", ends.local_port),
            ("network.transport", "tcp"),
            ("network.type", ends.network_type),
        ]
    return found


def lacks_something(exchange: Exchange) -> bool:
    """Whether `lacks` has anything to tell; nearly always not."""
    request, response = exchange.request, exchange.response
    if request.incomplete or request.unknown:
        return True
    return response is not None and bool(response.incomplete or response.unknown)


def lacks(exchange: Exchange, *more: str) -> Attributes:
    """What is not known of an exchange: `otelbpf.request.incomplete`, `otelbpf.response.incomplete`, and in
    `otelbpf.unknown` the names of fields whose values could not be seen (* for one without a name), and `more`."""
    request, response = exchange.request, exchange.response
    found: Attributes = []
    if request.incomplete:
        found.append(("otelbpf.request.incomplete", request.incomplete.value))
    if response is not None and response.incomplete:
        found.append(("otelbpf.response.incomplete", response.incomplete.value))
    unknown = set(more)
    unknown.update(name or "*" for name in request.unknown)
    if response is not None:
        unknown.update(name or "*" for name in response.unknown)
    if unknown:
        found.append(("otelbpf.unknown", tuple(sorted(unknown))))
    return found


def named(prefix: str, names: frozenset[str], headers: dict[str, str], redactor: Redactor) -> Attributes:
    """`PREFIX.NAME` for each of the names that is there."""
    return [(f"{prefix}.{name}", (redactor.header(name, headers[name]),)) for name in sorted(names) if name in headers]


def _served(target: str, redactor: Redactor) -> Attributes:
    if target.startswith("/") and not _NOT_PLAIN.search(target):
        return [("url.path", target)]
    path, query = path_and_query(target)
    found: Attributes = [("url.path", redactor.path(path))] if path else []
    if query:
        found.append(("url.query", redactor.query(query)))
    return found


def _asked(target: str, base: str, redactor: Redactor) -> Attributes:
    """url.full of the four forms of a target (RFC 9112 section 3.2); that of authority-form is `base`, as is that of *.
    Where `base` is not known, what of the target is known by itself."""
    if not base:
        return _served(target, redactor)
    if target.startswith("/"):
        if not _NOT_PLAIN.search(target):
            return [("url.full", base + target)]
        full = base + target
    elif target == "*" or base.startswith("//"):
        full = base
    elif "://" in target:
        full = target
    else:
        return []
    return [("url.full", redactor.url(full))]
