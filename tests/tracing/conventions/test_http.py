"""HTTP spans have the attributes the stable semantic conventions ask for, by their names, and no others but ours."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating.attributes import http_attributes as incubating_http

from otelbpf.connections.address import parse_endpoints
from otelbpf.events.encode import encode_endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Message, Side, StreamMessage
from otelbpf.tracing.conventions import http
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.span import Kind, Status

ENDS = http.Conversation(parse_endpoints(encode_endpoints("10.0.0.1", 8080, "10.0.0.2", 40000)))
V6 = http.Conversation(parse_endpoints(encode_endpoints("2001:db8::1", 8080, "2001:db8::2", 40000)))


def exchange(
    method: str = "GET",
    target: str = "/",
    status: int = 200,
    *,
    serving: bool = True,
    headers: dict[str, str] | None = None,
    error: str = "",
) -> Exchange:
    request = Message(Side.CLIENT, 0, 10, method, target, version="1.1", headers=headers or {}, end=10, body_size=0)
    response = Message(Side.SERVER, 0, 10, status=status, version="1.1", end=12, body_size=2) if status else None
    return Exchange(request, 7, 1000, 2000, response, 3000, 4000, error=error, serving=serving)


def attributes(made: Exchange, connection: http.Conversation = ENDS) -> dict[str, object]:
    kind = Kind.SERVER if made.serving else Kind.CLIENT
    own, shared = connection.describe(made, Redactor(), http.status(made, kind)[1])
    pairs = (*own, *shared.attributes)
    found: dict[str, object] = dict(pairs)
    assert len(found) == len(pairs)
    return found


def test_a_server_span_has_what_the_conventions_require() -> None:
    """Every value, exactly."""
    made = exchange("POST", "/a/b?x=1&token=t", 201, headers={"host": "shop.example:8443", "user-agent": "curl/8"})

    assert attributes(made) == {
        "http.request.method": "POST",
        "url.path": "/a/b",
        "url.query": "x=1&token=REDACTED",
        "url.scheme": "http",
        "server.address": "shop.example",
        "server.port": 8443,
        "client.address": "10.0.0.2",
        "client.port": 40000,
        "user_agent.original": "curl/8",
        "network.protocol.version": "1.1",
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 40000,
        "network.local.address": "10.0.0.1",
        "network.local.port": 8080,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "http.request.body.size": 0,
        "http.response.status_code": 201,
        "http.response.body.size": 2,
        "otelbpf.time_to_first_byte_ns": 2000,
    }


def test_what_is_shared_is_made_anew_only_where_it_differs() -> None:
    """A new traceparent changes nothing that is shared; anything the shared attributes are made of does."""
    connection = http.Conversation(parse_endpoints(encode_endpoints("10.0.0.1", 80, "10.0.0.2", 40000)))

    def shared(headers: dict[str, str], **how: str) -> object:
        return connection.describe(exchange(headers=headers, **how), Redactor(), "")[1]  # type: ignore[arg-type]

    base = {"host": "a", "traceparent": "00-1"}
    first = shared(base)
    assert shared({**base, "traceparent": "00-2"}) is first
    for changed in (
        {"host": "b"},
        {"user-agent": "c"},
        {"forwarded": "for=10.9.8.7"},
        {"x-forwarded-for": "10.9.8.6"},
        {"x-forwarded-host": "d"},
        {"x-forwarded-proto": "https"},
    ):
        assert shared(base) is not shared({**base, **changed})
        assert attributes(exchange(headers={**base, **changed}), connection) == attributes(
            exchange(headers={**base, **changed}),
            http.Conversation(parse_endpoints(encode_endpoints("10.0.0.1", 80, "10.0.0.2", 40000))),
        )
    assert shared(base) is not shared(base, method="PUT")


def test_a_client_span_has_the_full_url() -> None:
    """And no url.path, no client.address."""
    found = attributes(exchange("GET", "/a?q=1", serving=False, headers={"host": "shop.example"}))

    assert found["url.full"] == "http://shop.example/a?q=1"
    assert (found["server.address"], found["server.port"]) == ("shop.example", 80)
    assert not {"url.path", "url.query", "client.address", "client.port"} & set(found)


def test_secrets_of_a_target_are_in_no_attribute() -> None:
    """User information where only a host belongs, parameters of a path, and what stands behind a #."""
    for serving in (True, False):
        for method, target in (
            ("CONNECT", "user:hunter2@h:443"),
            ("GET", "/login;password=hunter2"),
            ("GET", "/a?next=http://user:hunter2@h/"),
            ("GET", "http://user:hunter2@h/p"),
            ("GET", "/a#token=hunter2"),
        ):
            found = attributes(exchange(method, target, serving=serving, headers={"host": "user:hunter2@h"}))
            assert "hunter2" not in str(found)
            assert found["server.address"] == "h"


def test_every_name_is_a_convention_or_ours() -> None:
    """Checked against the published package of the conventions."""
    known = {incubating_http.HTTP_REQUEST_BODY_SIZE, incubating_http.HTTP_RESPONSE_BODY_SIZE}
    for area in pkgutil.iter_modules(stable.__path__):
        module = importlib.import_module(f"{stable.__name__}.{area.name}")
        known |= {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    for serving in (True, False):
        names = set(
            attributes(exchange("BREW", "/x?y=1", 500, serving=serving, headers={"host": "h", "user-agent": "u"}))
        )
        ours = {name for name in names if name.startswith("otelbpf.")}
        assert ours == {"otelbpf.time_to_first_byte_ns"}
        assert names - ours <= known


@pytest.mark.parametrize(
    ("status", "server", "client"),
    [
        (100, "", ""),
        (200, "", ""),
        (302, "", ""),
        (399, "", ""),
        (400, "", "400"),
        (404, "", "404"),
        (499, "", "499"),
        (500, "500", "500"),
        (503, "503", "503"),
    ],
)
def test_status_rules_differ_for_client_and_server(status: int, server: str, client: str) -> None:
    """4xx is the client's error, not the server's."""
    for kind, expected in ((Kind.SERVER, server), (Kind.CLIENT, client)):
        made = exchange(status=status, serving=kind is Kind.SERVER)
        assert http.status(made, kind) == (Status.ERROR if expected else Status.UNSET, expected)
        assert attributes(made).get("error.type", "") == expected


def test_a_broken_connection_is_its_own_error() -> None:
    """Whatever the status was."""
    assert attributes(exchange(status=200, error="ECONNRESET"))["error.type"] == "ECONNRESET"
    assert "http.response.status_code" not in attributes(exchange(status=0, error="connection_closed"))


def test_unknown_methods_are_other() -> None:
    """Methods are case-sensitive (RFC 9110 section 9.1)."""
    for method in ("get", "BREW"):
        found = attributes(exchange(method))
        assert (found["http.request.method"], found["http.request.method_original"]) == ("_OTHER", method)
        assert http.span_name(exchange(method).request) == "HTTP"


def test_the_known_methods_are_those_of_the_conventions_unless_others_are_asked_for() -> None:
    """A list takes the place of the default one (OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS)."""
    assert {*http.METHODS, "_OTHER"} == {value.value for value in incubating_http.HttpRequestMethodValues}
    chosen = frozenset(("GET", "BREW"))
    for method, known in (("BREW", True), ("GET", True), ("POST", False), ("brew", False)):
        found = attributes(exchange(method), http.Conversation(ENDS.endpoints, methods=chosen))
        original = None if known else method
        assert found["http.request.method"] == (method if known else "_OTHER")
        assert found.get("http.request.method_original") == original
        assert http.span_name(exchange(method).request, chosen) == (method if known else "HTTP")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", None),
        ("/?", "/", None),
        ("/a?b?c", "/a", "b?c"),
        ("//a/b", "//a/b", None),
        ("/a://b", "/a://b", None),
        ("*", "*", None),
        ("http://h", "/", None),
        ("http://h/p?q=1", "/p", "q=1"),
        ("http://h?q=1", "/", "q=1"),
        ("h:443", None, None),
    ],
)
def test_the_four_forms_of_a_target(target: str, path: str | None, query: str | None) -> None:
    """RFC 9112 section 3.2."""
    found = attributes(exchange("CONNECT" if target == "h:443" else "GET", target))
    assert (found.get("url.path"), found.get("url.query")) == (path, query)


@pytest.mark.parametrize(
    ("target", "host", "full", "address", "port"),
    [
        ("/a", "h", "http://h/a", "h", 80),
        ("/a", "h:81", "http://h:81/a", "h", 81),
        ("/a", "[::1]:81", "http://[::1]:81/a", "::1", 81),
        ("/a", "", "http://[2001:db8::2]:40000/a", "2001:db8::2", 40000),
        ("*", "h", "http://h", "h", 80),
        ("http://u:p@x/a", "h", "http://REDACTED:REDACTED@x/a", "x", 80),
        ("https://x/a", "h", "https://x/a", "x", 443),
        ("ftp://x/a", "h", "ftp://x/a", "x", None),
        ("db:5432", "h", "//db:5432", "db", 5432),
        ("[::1]:443", "h", "//[::1]:443", "::1", 443),
        ("u:p@db:5432", "h", "//db:5432", "db", 5432),
        ("db:99999", "db:99999", "//db", "db", None),
    ],
)
def test_url_full_and_server_of_a_client(target: str, host: str, full: str, address: str, port: int | None) -> None:
    """Absolute-form wins over Host; no Host means the peer. A tunnel's URL has no scheme, and no port is made up."""
    method = "GET" if target.startswith("/") or "://" in target or target == "*" else "CONNECT"
    found = attributes(exchange(method, target, serving=False, headers={"host": host} if host else {}), V6)

    assert (found.get("url.full"), found["server.address"], found.get("server.port")) == (full, address, port)


@pytest.mark.parametrize(
    ("headers", "client", "port"),
    [
        ({"x-forwarded-for": "192.0.2.7, 10.0.0.9"}, "192.0.2.7", None),
        ({"x-forwarded-for": "192.0.2.7:1234"}, "192.0.2.7", 1234),
        ({"x-forwarded-for": "2001:db8::9"}, "2001:db8::9", None),
        (
            {"forwarded": 'proto=https;for="[2001:db8::9]:47"; by=x, for=1.1.1.1', "x-forwarded-for": "9"},
            "2001:db8::9",
            47,
        ),
        ({"forwarded": 'For="192.0.2.7:_port"'}, "192.0.2.7", None),
        ({"forwarded": "proto=https"}, "10.0.0.2", 40000),
        ({"forwarded": "for=unknown"}, "10.0.0.2", 40000),
        ({"forwarded": 'for="_gazonk:1"'}, "10.0.0.2", 40000),
        ({"x-forwarded-for": "unknown, 192.0.2.7"}, "10.0.0.2", 40000),
    ],
)
def test_the_client_behind_a_proxy(headers: dict[str, str], client: str, port: int | None) -> None:
    """Forwarded wins over X-Forwarded-For; what is no address is none; the peer stays network.peer.address."""
    found = attributes(exchange(headers=headers))

    assert (found["client.address"], found.get("client.port")) == (client, port)
    assert (found["network.peer.address"], found["network.peer.port"]) == ("10.0.0.2", 40000)


@pytest.mark.parametrize(
    ("headers", "address", "port", "scheme"),
    [
        ({"x-forwarded-host": "shop.example, inner"}, "shop.example", 80, "http"),
        ({"x-forwarded-host": "shop.example:81"}, "shop.example", 81, "http"),
        ({"forwarded": 'for=1.1.1.1;host="shop.example:82"', "x-forwarded-host": "x"}, "shop.example", 82, "http"),
        ({"forwarded": "host=shop.example;proto=https"}, "shop.example", 443, "https"),
        ({"x-forwarded-host": "shop.example", "x-forwarded-proto": "https,http"}, "shop.example", 443, "https"),
        ({"x-forwarded-proto": "HTTPS"}, "inner", 443, "https"),
        ({"x-forwarded-proto": "wss"}, "inner", 443, "wss"),
        ({"x-forwarded-proto": "gopher"}, "inner", None, "gopher"),
        ({"x-forwarded-host": ""}, "inner", 80, "http"),
    ],
)
def test_the_host_a_proxy_was_asked_for(headers: dict[str, str], address: str, port: int | None, scheme: str) -> None:
    """Forwarded, X-Forwarded-Host, Host, in that order; a port that is not given is that of the original scheme. A
    client's span tells whom it asked itself."""
    headers = {"host": "inner", **headers}
    found = attributes(exchange(headers=headers))
    asked = attributes(exchange(headers={**headers}, serving=False))

    assert (found["server.address"], found.get("server.port"), found["url.scheme"]) == (address, port, scheme)
    assert (asked["server.address"], asked["server.port"], asked["url.full"]) == ("inner", 80, "http://inner/")


def test_named_headers_are_reported_and_their_secrets_are_not() -> None:
    """Only those asked for, each as a list, as the conventions say."""
    named = http.NamedHeaders(["x-tenant", "cookie", "x-api-key", "x-absent"], ["x-cache"])
    made = exchange(headers={"x-tenant": "blue", "cookie": "id=1", "x-api-key": "k", "x-other": "o"})
    assert made.response is not None
    made.response.headers = {"x-cache": "HIT", "set-cookie": "id=2"}
    own, _ = http.Conversation(ENDS.endpoints, named).describe(made, Redactor(), "")

    assert {name: value for name, value in own if ".header." in name} == {
        "http.request.header.x-tenant": ("blue",),
        "http.request.header.cookie": ("REDACTED",),
        "http.request.header.x-api-key": ("REDACTED",),
        "http.response.header.x-cache": ("HIT",),
    }


def stream_exchange(*, serving: bool = True, unknown: frozenset[str] = frozenset(), **request: Any) -> Exchange:
    fields: dict[str, Any] = {"method": "GET", "target": "/a", "headers": {"host": "h:81", ":scheme": "https"}}
    asked = StreamMessage(
        Side.CLIENT, 0, 10, version="2", end=10, body_size=0, stream=1, unknown=unknown, **(fields | request)
    )
    answer = StreamMessage(Side.SERVER, 0, 10, status=200, version="2", end=12, body_size=2, stream=1)
    return Exchange(asked, 7, 1000, 2000, answer, 3000, 4000, serving=serving)


def test_http_2_has_its_scheme_and_version() -> None:
    """:scheme is what the client says it is, even where a proxy has taken the encryption off."""
    for serving in (True, False):
        found = attributes(stream_exchange(serving=serving))
        assert (found["url.scheme"], found["network.protocol.version"]) == ("https", "2")
        assert (found["server.address"], found["server.port"]) == ("h", 81)
        assert found.get("url.full") == (None if serving else "https://h:81/a")
        assert "otelbpf.unknown" not in found


def test_what_is_unknown_of_http_2_is_absent_and_named() -> None:
    """No method, no path, no URL is made up; what is known of it stays."""
    everything = frozenset(("", ":method", ":path", ":scheme", ":authority"))
    nothing = stream_exchange(unknown=everything, method="", target="", headers={})
    found = attributes(nothing)
    assert http.span_name(nothing.request) == "HTTP"
    assert found["otelbpf.unknown"] == ("*", ":authority", ":method", ":path", ":scheme")
    assert not {"http.request.method", "http.request.method_original", "url.path", "url.scheme"} & set(found)
    assert (found["server.address"], found["server.port"]) == ("10.0.0.1", 8080)

    client = attributes(stream_exchange(serving=False, unknown=frozenset((":authority",)), headers={":scheme": "http"}))
    assert "url.full" not in client
    assert (client["url.path"], client["url.scheme"]) == ("/a", "http")


@pytest.mark.parametrize("serving", [True, False])
def test_shared_attributes_of_http_2_follow_what_is_known(serving: bool) -> None:
    """The same connection: first an unknown authority, then a known one, then another scheme."""
    ends = parse_endpoints(encode_endpoints("10.0.0.1", 80, "10.0.0.2", 40000))
    connection = http.Conversation(ends)
    steps: list[dict[str, Any]] = [
        {"unknown": frozenset((":authority",)), "headers": {":scheme": "http"}},
        {"headers": {":scheme": "http"}},
        {"headers": {":scheme": "http", "host": "h"}},
        {"headers": {":scheme": "https", "host": "h"}},
        {"unknown": frozenset((":method",)), "method": "", "headers": {":scheme": "https", "host": "h"}},
    ]
    for fields in steps:
        made = stream_exchange(serving=serving, **fields)
        assert attributes(made, connection) == attributes(made, http.Conversation(ends))
