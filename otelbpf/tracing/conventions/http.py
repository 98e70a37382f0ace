"""HTTP spans by the stable semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).

Attribute names, which of them a kind of span has, and the rules of status and error.type are the conventions'; the
attributes that begin with `otelbpf.` are ours and say what only a tracer beside the road can know.

A client sends the same headers again and again over a connection, so what follows from them is made once and shared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from otelbpf.connections.address import Endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Message, StreamMessage
from otelbpf.tracing.conventions.target import METHODS, OTHER_METHOD, path_and_query
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.routes import Route, Tree
from otelbpf.tracing.span import NOTHING_SHARED, AttributeSet, AttributeValue, Kind, Status

_SHAPING_HEADERS = ("host", "user-agent", "forwarded", "x-forwarded-for", "x-forwarded-proto")
"""Those that shared attributes are made from."""
WANTED_HEADERS = frozenset(
    (
        *_SHAPING_HEADERS,
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

_FINE = (Status.UNSET, "")

Attribute = tuple[str, AttributeValue]
Attributes = list[tuple[str, AttributeValue]]
_NOT_PLAIN = re.compile("[?#;@%]")  # more than a path, or one that a secret may stand in
DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_KEPT = 256
"""Longer authorities are taken apart each time: no host has one, and what a stranger sends is to take no memory."""


def span_name(request: Message) -> str:
    """`{method}`, where no route is known; HTTP for unknown methods."""
    return request.method if request.method in METHODS else "HTTP"


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


NO_HEADERS = NamedHeaders()


class Conversation:
    """The attributes of one connection's exchanges."""

    __slots__ = (
        "_base",
        "_headers",
        "_method",
        "_named",
        "_secured",
        "_shaping",
        "_shared",
        "_version",
        "endpoints",
        "routes",
    )

    def __init__(
        self, endpoints: Endpoints, named: NamedHeaders = NO_HEADERS, *, secured: tuple[Attribute, ...] = ()
    ) -> None:
        """`secured`: what is told of TLS, where the messages went through it."""
        self.endpoints = endpoints
        self.routes: Tree | None = None
        """Those of the service that is asked."""
        self._secured = secured
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
        if not host or len(host) > _LONGEST_KEPT:
            host, port = self.endpoints.remote_address, self.endpoints.remote_port
        return f"{host}:{port}"

    def _renew(self, exchange: Exchange) -> None:
        """Share anew where something differs that the shared attributes are made of. An instrumented client's headers
        are never the same (traceparent), and make the same attributes."""
        request = exchange.request
        self._headers, self._method, self._version = request.headers, request.method, request.version
        role = "server" if exchange.serving else "client"
        shaping = [role, request.method, request.version, *map(request.headers.get, _SHAPING_HEADERS)]
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
            found.append(("http.request.method", method if method in METHODS else OTHER_METHOD))
            if method not in METHODS:
                found.append(("http.request.method_original", method))
        scheme, host, port = authority_of(request, "https" if self._secured else "http")
        found += ends_of(exchange, self.endpoints, scheme)
        if exchange.serving:
            scheme = _forwarded_scheme(headers) or scheme
        if scheme:
            found.append(("url.scheme", scheme))
        found.append(("network.protocol.version", request.version))
        found += self._secured
        if not host and self.endpoints.is_known and not is_unknown(request, ":authority"):
            host, port = self.endpoints.remote_address, self.endpoints.remote_port
        if not scheme or not host:
            return AttributeSet(tuple(found)), ""
        literal = f"[{host}]" if ":" in host else host
        number = port or DEFAULT_PORTS.get(scheme, 80)
        authority = literal if DEFAULT_PORTS.get(scheme) == number else f"{literal}:{number}"
        return AttributeSet(tuple(found)), f"{scheme}://{authority}"


def ends_of(exchange: Exchange, ends: Endpoints, default: str) -> Attributes:
    """Who speaks with whom: server.*, client.*, user_agent.original and network.*, as any request has. `default` is
    the scheme whose port counts where none is given."""
    request = exchange.request
    headers = request.headers
    scheme, host, port = authority_of(request, default)
    number = port or DEFAULT_PORTS.get(scheme, 80)
    if not host and ends.is_known:
        host, number = (
            (ends.local_address, ends.local_port) if exchange.serving else (ends.remote_address, ends.remote_port)
        )
    found: Attributes = [("server.address", host), ("server.port", number)] if host else []
    if exchange.serving:
        client = _forwarded_client(headers)
        if client:
            found.append(("client.address", client))
        elif ends.is_known:
            found += [("client.address", ends.remote_address), ("client.port", ends.remote_port)]
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


def is_unknown(message: Message, name: str) -> bool:
    """Whether a field may be there whose value was not seen (HTTP/2, joined midway)."""
    return name in message.unknown or "" in message.unknown


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
    """url.full of the four forms of a target (RFC 9112 section 3.2); none for authority-form, which is no URL. Where
    `base` is not known, what of the target is known by itself."""
    if not base:
        return _served(target, redactor)
    if target.startswith("/"):
        if not _NOT_PLAIN.search(target):
            return [("url.full", base + target)]
        full = base + target
    elif target == "*":
        full = base
    elif "://" in target:
        full = target
    else:
        return []
    return [("url.full", redactor.url(full))]


def authority_of(request: Message, scheme: str) -> tuple[str, str, int]:
    """Scheme, host and port (0: none given) a request is for: absolute-form wins over Host (RFC 9112 section 3.2.2),
    :authority too (RFC 9113 section 8.3.1). `scheme` is that of the connection; empty is one that is not known."""
    if isinstance(request, StreamMessage):
        headers = request.headers
        scheme = headers.get(":scheme") or ("" if is_unknown(request, ":scheme") else scheme)
        return scheme, *split_authority(headers.get("host", ""))
    target = request.target
    if "://" in target and not target.startswith("/"):
        absolute, _, rest = target.partition("://")
        authority = rest.split("/", 1)[0].split("?", 1)[0].rpartition("@")[2]
        return absolute.lower(), *split_authority(authority)
    host = target if request.method == "CONNECT" else request.headers.get("host")
    return (scheme, *split_authority(host)) if host else (scheme, "", 0)


def split_authority(authority: str) -> tuple[str, int]:
    """`host[:port]` (RFC 3986 section 3.2): host without brackets, port 0 where none or no number is given."""
    return _remembered_parts(authority) if len(authority) <= _LONGEST_KEPT else _parts(authority)


def _parts(authority: str) -> tuple[str, int]:
    authority = authority.strip().rpartition("@")[2]  # user information is a secret
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    elif authority.count(":") > 1:
        return authority, 0
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number < 65536 else 0


_remembered_parts = lru_cache(4096)(_parts)


def _forwarded(headers: dict[str, str], parameter: str) -> str:
    """A parameter of the first hop of Forwarded (RFC 7239 section 4)."""
    for pair in headers.get("forwarded", "").split(",", 1)[0].split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == parameter:
            return value.strip().strip('"')
    return ""


def _forwarded_client(headers: dict[str, str]) -> str:
    """The original client: Forwarded, else the first of X-Forwarded-For."""
    first = _forwarded(headers, "for") or headers.get("x-forwarded-for", "").split(",", 1)[0]
    return split_authority(first)[0] if first else ""


def _forwarded_scheme(headers: dict[str, str]) -> str:
    """The original scheme, by the same headers."""
    first = _forwarded(headers, "proto") or headers.get("x-forwarded-proto", "").split(",", 1)[0]
    return first.strip().lower()
