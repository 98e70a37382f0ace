"""HTTP spans by the stable semantic conventions (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).

Attribute names, which of them a kind of span has, and the rules of status and error.type are the conventions'; the
attributes that begin with `otelbpf.` are ours and say what only a tracer beside the road can know.
"""

from __future__ import annotations

from functools import lru_cache

from otelbpf.connections.address import Endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Incomplete, Message
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.span import AttributeValue, Kind, Status

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
"""http.request.method knows these (RFC 9110 section 9.3, RFC 5789); any other is _OTHER."""
OTHER_METHOD = "_OTHER"

WANTED_HEADERS = frozenset(
    ("host", "user-agent", "traceparent", "tracestate", "forwarded", "x-forwarded-for", "x-forwarded-proto")
)
"""Request headers the attributes are made from."""

Attributes = list[tuple[str, AttributeValue]]
DEFAULT_PORTS = {"http": 80, "https": 443}


def span_name(request: Message) -> str:
    """`{method}`: a low-cardinality target (http.route) is not known from the bytes; HTTP for unknown methods."""
    return request.method if request.method in METHODS else "HTTP"


def status(exchange: Exchange, kind: Kind) -> tuple[Status, str]:
    """Span status and error.type: 5xx is an error on both sides, 4xx only for the client that got it."""
    if exchange.error:
        return Status.ERROR, exchange.error
    response = exchange.response
    code = response.status if response is not None else 0
    if code >= (400 if kind is Kind.CLIENT else 500):
        return Status.ERROR, str(code)
    return Status.UNSET, ""


class ConnectionAttributes:
    """What is the same for every exchange of a connection, made once."""

    __slots__ = ("client", "endpoints", "network")

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.network: Attributes = [
            ("network.peer.address", endpoints.remote_address),
            ("network.peer.port", endpoints.remote_port),
            ("network.local.address", endpoints.local_address),
            ("network.local.port", endpoints.local_port),
            ("network.transport", "tcp"),
            ("network.type", endpoints.network_type),
        ]
        self.client: Attributes = [
            ("client.address", endpoints.remote_address),
            ("client.port", endpoints.remote_port),
        ]


def attributes(exchange: Exchange, connection: ConnectionAttributes, redactor: Redactor, error_type: str) -> Attributes:
    """All attributes of an exchange's span."""
    request = exchange.request
    method = request.method
    found: Attributes = [("http.request.method", method if method in METHODS else OTHER_METHOD)]
    if method not in METHODS:
        found.append(("http.request.method_original", method))
    if exchange.serving:
        _server(found, request, connection, redactor)
    else:
        _client(found, request, connection, redactor)
    found.append(("network.protocol.version", request.version))
    found += connection.network
    if request.body_size >= 0:
        found.append(("http.request.body.size", request.body_size))
    response = exchange.response
    if response is not None:
        found.append(("http.response.status_code", response.status))
        if response.body_size >= 0:
            found.append(("http.response.body.size", response.body_size))
        found.append(("otelbpf.time_to_first_byte_ns", exchange.response_first_ns - exchange.request_first_ns))
        if response.incomplete is not Incomplete.NONE:
            found.append(("otelbpf.response.incomplete", response.incomplete.value))
    if request.incomplete is not Incomplete.NONE:
        found.append(("otelbpf.request.incomplete", request.incomplete.value))
    if error_type:
        found.append(("error.type", error_type))
    return found


def _server(found: Attributes, request: Message, connection: ConnectionAttributes, redactor: Redactor) -> None:
    headers = request.headers
    scheme, host, port = _authority(request, "http")
    path, query = _path_and_query(request.target)
    if path:
        found.append(("url.path", path))
    if query:
        found.append(("url.query", redactor.query(query)))
    found.append(("url.scheme", headers.get("x-forwarded-proto", scheme) if "x-forwarded-proto" in headers else scheme))
    found.append(("server.address", host or connection.endpoints.local_address))
    found.append(("server.port", port or (DEFAULT_PORTS.get(scheme, 80) if host else connection.endpoints.local_port)))
    client = _forwarded_client(headers)
    if client:
        found.append(("client.address", client))
    else:
        found += connection.client
    if "user-agent" in headers:
        found.append(("user_agent.original", headers["user-agent"]))


def _client(found: Attributes, request: Message, connection: ConnectionAttributes, redactor: Redactor) -> None:
    scheme, host, port = _authority(request, "http")
    address = host or connection.endpoints.remote_address
    number = port or (DEFAULT_PORTS.get(scheme, 80) if host else connection.endpoints.remote_port)
    found.append(("server.address", address))
    found.append(("server.port", number))
    full = _full_url(request.target, scheme, address, number)
    if full:
        found.append(("url.full", redactor.url(full)))
    found.append(("url.scheme", scheme))
    user_agent = request.headers.get("user-agent")
    if user_agent is not None:
        found.append(("user_agent.original", user_agent))


def _full_url(target: str, scheme: str, address: str, port: int) -> str:
    """url.full of the four forms of a target (RFC 9112 section 3.2); nothing for authority-form, which is no URL."""
    if target.startswith("/") or target == "*":
        host = f"[{address}]" if ":" in address else address
        authority = host if DEFAULT_PORTS.get(scheme) == port else f"{host}:{port}"
        return f"{scheme}://{authority}{target if target != '*' else ''}"
    return target if "://" in target else ""


def _path_and_query(target: str) -> tuple[str, str]:
    """url.path and url.query of a target; both empty for authority-form."""
    if "://" in target and not target.startswith("/"):
        _, _, rest = target.partition("://")
        slash = rest.find("/")
        question = rest.find("?")
        if slash < 0 or 0 <= question < slash:
            return "/", rest[question + 1 :] if question >= 0 else ""
        target = rest[slash:]
    elif not target.startswith(("/", "*")):
        return "", ""
    path, _, query = target.partition("?")
    return path.partition("#")[0], query.partition("#")[0]


def _authority(request: Message, scheme: str) -> tuple[str, str, int]:
    """Scheme, host and port (0: none given) a request is for: absolute-form wins over Host (RFC 9112 section 3.2.2)."""
    target = request.target
    if "://" in target and not target.startswith("/"):
        scheme, _, rest = target.partition("://")
        authority = rest.split("/", 1)[0].split("?", 1)[0].rpartition("@")[2]
        return scheme.lower(), *split_authority(authority)
    if request.method == "CONNECT":
        return scheme, *split_authority(target)
    host = request.headers.get("host")
    return (scheme, *split_authority(host)) if host else (scheme, "", 0)


@lru_cache(4096)
def split_authority(authority: str) -> tuple[str, int]:
    """`host[:port]` (RFC 3986 section 3.2): host without brackets, port 0 where none or no number is given."""
    authority = authority.strip()
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    elif authority.count(":") > 1:
        return authority, 0
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number < 65536 else 0


def _forwarded_client(headers: dict[str, str]) -> str:
    """The original client: Forwarded (RFC 7239 section 5.2), else the first of X-Forwarded-For."""
    forwarded = headers.get("forwarded")
    if forwarded:
        for pair in forwarded.split(",", 1)[0].split(";"):
            name, _, value = pair.partition("=")
            if name.strip().lower() == "for":
                return split_authority(value.strip().strip('"'))[0]
    first = headers.get("x-forwarded-for")
    return split_authority(first.split(",", 1)[0])[0] if first else ""
