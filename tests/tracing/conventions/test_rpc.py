"""gRPC spans have the attributes the conventions for RPC ask for, by their names, and no others but ours and HTTP's."""

from __future__ import annotations

import pytest
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv.attributes import error_attributes, network_attributes, server_attributes

from otelbpf.connections.address import parse_endpoints
from otelbpf.events.encode import encode_endpoints
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Message, Side, StreamMessage
from otelbpf.tracing.conventions import http, rpc
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.span import Kind, Status

ENDS = parse_endpoints(encode_endpoints("10.0.0.1", 8080, "10.0.0.2", 40000))
GRPC = {"content-type": "application/grpc+proto", "host": "shop:8080", ":scheme": "http", "user-agent": "grpc-go/1"}
PATH = "/shop.Orders/Place"
MS = 1_000_000


def call(
    *,
    serving: bool = True,
    headers: dict[str, str] = GRPC,
    status: int = 200,
    trailers: dict[str, str] | None = None,
    answered: bool = True,
    error: str = "",
    took_ns: int = 3000,
    path: str = PATH,
) -> Exchange:
    request = StreamMessage(
        Side.CLIENT, 0, 10, "POST", path, version="2", headers=headers, end=20, body_size=12, stream=1, parts=2
    )
    response = StreamMessage(
        Side.SERVER, 0, 10, status=status, version="2", end=20, body_size=7, stream=1, parts=1, trailers=trailers or {}
    )
    return Exchange(
        request, 7, 1000, 2000, response if answered else None, 3000, 1000 + took_ns, error=error, serving=serving
    )


def described(exchange: Exchange, named: http.NamedHeaders = http.NO_HEADERS) -> tuple[rpc.Call, dict[str, object]]:
    kind = Kind.SERVER if exchange.serving else Kind.CLIENT
    found = rpc.read(exchange, kind)
    assert found is not None
    own, shared = rpc.Calls(ENDS, named).describe(exchange, found, Redactor())
    pairs = (*own, *shared.attributes)
    attributes: dict[str, object] = dict(pairs)
    assert len(attributes) == len(pairs)
    return found, attributes


def test_a_server_span_has_what_the_conventions_require() -> None:
    """Every value, exactly."""
    found, attributes = described(call(trailers={"grpc-status": "0"}))

    assert (found.span_name, found.status, found.error_type) == ("shop.Orders/Place", Status.UNSET, "")
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "shop.Orders/Place",
        "rpc.response.status_code": "OK",
        "server.address": "shop",
        "server.port": 8080,
        "client.address": "10.0.0.2",
        "client.port": 40000,
        "user_agent.original": "grpc-go/1",
        "network.protocol.name": "http",
        "network.protocol.version": "2",
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 40000,
        "network.local.address": "10.0.0.1",
        "network.local.port": 8080,
        "network.transport": "tcp",
        "network.type": "ipv4",
        "http.request.body.size": 12,
        "http.response.body.size": 7,
        "otelbpf.rpc.request.messages": 2,
        "otelbpf.rpc.response.messages": 1,
        "otelbpf.time_to_first_byte_ns": 2000,
    }


def test_every_name_is_a_current_convention_or_ours() -> None:
    """None is deprecated: the published package says so of each."""
    known = {
        rpc_attributes.RPC_SYSTEM_NAME,
        rpc_attributes.RPC_METHOD,
        rpc_attributes.RPC_METHOD_ORIGINAL,
        rpc_attributes.RPC_RESPONSE_STATUS_CODE,
        error_attributes.ERROR_TYPE,
        network_attributes.NETWORK_PROTOCOL_NAME,
        server_attributes.SERVER_ADDRESS,
    }
    for serving in (True, False):
        _, attributes = described(call(serving=serving, trailers={"grpc-status": "12"}))
        names = {name for name in attributes if name.startswith(("rpc.", "error.", "network.protocol.name"))}
        assert names <= known
    old = {rpc_attributes.RPC_SYSTEM, rpc_attributes.RPC_SERVICE, rpc_attributes.RPC_GRPC_STATUS_CODE}
    assert not old & set(attributes)


@pytest.mark.parametrize("number", range(len(rpc.STATUSES)))
def test_status_rules_differ_for_client_and_server(number: int) -> None:
    """A client failed unless it is OK; a server only where it is at fault."""
    name = rpc.STATUSES[number]
    of_server = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
    for serving in (True, False):
        failed = name in of_server if serving else number > 0
        found, attributes = described(call(serving=serving, trailers={"grpc-status": str(number)}))
        assert attributes["rpc.response.status_code"] == name
        assert found.status is (Status.ERROR if failed else Status.UNSET)
        assert attributes.get("error.type") == (name if failed else None)


def test_a_method_the_server_does_not_know_is_other() -> None:
    """To the client it is what it asked for."""
    found, attributes = described(call(trailers={"grpc-status": "12"}))
    assert (found.span_name, attributes["rpc.method"], attributes["rpc.method_original"]) == (
        "grpc",
        "_OTHER",
        "shop.Orders/Place",
    )
    found, attributes = described(call(serving=False, trailers={"grpc-status": "12"}))
    assert (found.span_name, attributes["rpc.method"]) == ("shop.Orders/Place", "shop.Orders/Place")


def test_trailers_only_have_the_status_among_the_headers() -> None:
    """https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Trailers-Only."""
    exchange = call(serving=False)
    assert exchange.response is not None
    exchange.response.headers = {"grpc-status": "5"}

    assert described(exchange)[1]["rpc.response.status_code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("timeout", "took_ns", "code"),
    [
        (None, 10**9, "CANCELLED"),
        ("100m", 20 * MS, "CANCELLED"),
        ("100m", 101 * MS, "DEADLINE_EXCEEDED"),
        ("100m", 99 * MS, "DEADLINE_EXCEEDED"),
        ("100m", 72 * MS, "CANCELLED"),
        ("300m", 243 * MS, "CANCELLED"),
        ("300m", 245 * MS, "DEADLINE_EXCEEDED"),
        ("2S", 1990 * MS, "DEADLINE_EXCEEDED"),
        ("1H", 1990 * MS, "CANCELLED"),
        ("100000u", 120 * MS, "DEADLINE_EXCEEDED"),
        ("nonsense", 120 * MS, "CANCELLED"),
    ],
)
def test_a_cancelled_stream_is_a_deadline_where_one_had_passed(timeout: str | None, took_ns: int, code: str) -> None:
    """The client says no more than CANCEL; its request said how long it would wait."""
    headers = GRPC | ({"grpc-timeout": timeout} if timeout else {})
    for serving in (True, False):
        exchange = call(serving=serving, headers=headers, answered=False, error="CANCEL", took_ns=took_ns)
        found, attributes = described(exchange)
        failed = not serving or code == "DEADLINE_EXCEEDED"
        assert attributes["rpc.response.status_code"] == code
        assert found.status is (Status.ERROR if failed else Status.UNSET)
        assert attributes["otelbpf.reset"] == "CANCEL"


@pytest.mark.parametrize(
    ("reset", "code"),
    [("REFUSED_STREAM", "UNAVAILABLE"), ("ENHANCE_YOUR_CALM", "RESOURCE_EXHAUSTED"), ("PROTOCOL_ERROR", "INTERNAL")],
)
def test_a_reset_is_the_status_that_grpc_makes_of_it(reset: str, code: str) -> None:
    """The mapping of gRPC's protocol."""
    found, attributes = described(call(serving=False, answered=False, error=reset))
    assert (attributes["rpc.response.status_code"], attributes["error.type"], found.status) == (
        code,
        code,
        Status.ERROR,
    )


@pytest.mark.parametrize(("took_ns", "code"), [(50 * MS, None), (101 * MS, "DEADLINE_EXCEEDED")])
def test_a_deadline_of_grpc_web_closes_the_connection(took_ns: int, code: str | None) -> None:
    """HTTP/1 has no other way to end a call."""
    headers = {"host": "shop", "content-type": "application/grpc-web", "grpc-timeout": "100m"}
    request = Message(Side.CLIENT, 0, 10, "POST", PATH, 0, "1.1", headers)
    exchange = Exchange(request, 7, 1000, 2000, None, 3000, 1000 + took_ns, error="connection_closed")
    found, attributes = described(exchange)
    assert (attributes.get("rpc.response.status_code"), found.error_type) == (code, code or "connection_closed")


def test_a_broken_connection_has_no_status() -> None:
    """What each end made of it is not on the wire."""
    found, attributes = described(call(answered=False, error="ECONNRESET"))

    assert (found.status, attributes["error.type"]) == (Status.ERROR, "ECONNRESET")
    assert not {"rpc.response.status_code", "otelbpf.reset", "otelbpf.unknown"} & set(attributes)


@pytest.mark.parametrize(("status", "code"), [(503, "UNAVAILABLE"), (404, "UNIMPLEMENTED"), (418, "UNKNOWN")])
def test_an_answer_that_is_not_grpcs_is_mapped_for_the_client(status: int, code: str) -> None:
    """A proxy's, say; the server itself sent no status of gRPC's."""
    _, client = described(call(serving=False, status=status))
    _, server = described(call(status=status))

    assert (client["rpc.response.status_code"], client["http.response.status_code"]) == (code, status)
    assert "rpc.response.status_code" not in server
    assert server["http.response.status_code"] == status


def test_grpc_web_over_http_1_has_a_status_only_where_it_can_be_seen() -> None:
    """It stands in the body, behind the messages, and may not be seen; in a response of trailers only, among the
    headers."""
    headers = {"host": "shop", "content-type": "application/grpc-web+proto"}
    request = Message(Side.CLIENT, 0, 10, "POST", PATH, version="1.1", headers=headers, end=10, body_size=12)
    response = Message(Side.SERVER, 0, 10, "POST", "", 200, "1.1", {})
    response.end, response.body_size = 12, 30
    exchange = Exchange(request, 7, 1000, 2000, response, 3000, 4000)

    found, attributes = described(exchange)
    assert (found.span_name, found.status) == ("shop.Orders/Place", Status.UNSET)
    assert attributes["otelbpf.unknown"] == ("grpc-status",)
    assert (attributes["network.protocol.version"], "rpc.response.status_code" in attributes) == ("1.1", False)

    response.headers = {"grpc-status": "7"}
    assert described(exchange)[1]["rpc.response.status_code"] == "PERMISSION_DENIED"

    response.headers, response.trailers, response.parts = {}, {"grpc-status": "14"}, 2
    found, attributes = described(exchange)
    assert (found.error_type, attributes["rpc.response.status_code"]) == ("UNAVAILABLE", "UNAVAILABLE")
    assert (attributes["otelbpf.rpc.response.messages"], "otelbpf.unknown" in attributes) == (2, False)


def test_what_is_no_call_is_none() -> None:
    """By its content type alone."""
    for content_type in ("application/json", "text/grpc", None):
        headers = {"host": "h"} | ({"content-type": content_type} if content_type else {})
        assert rpc.read(call(headers=headers), Kind.SERVER) is None


def test_unknown_fields_are_absent_and_named() -> None:
    """Met midway: the content type of the response says that it is a call."""
    exchange = call(headers={}, path="")
    request, response = exchange.request, exchange.response
    assert isinstance(request, StreamMessage)
    assert isinstance(response, StreamMessage)
    request.unknown = frozenset(("", ":path", ":scheme", ":authority"))
    response.headers = {"content-type": "application/grpc"}
    response.unknown = frozenset(("",))

    found, attributes = described(exchange)
    assert (found.span_name, found.status) == ("grpc", Status.UNSET)
    assert attributes["otelbpf.unknown"] == ("*", ":authority", ":path", ":scheme", "grpc-status")
    assert not {"rpc.method", "rpc.response.status_code", "user_agent.original"} & set(attributes)


def test_named_headers_are_metadata() -> None:
    """Those of the trailers too; secrets stay secret."""
    exchange = call(
        headers=GRPC | {"x-tenant": "a", "authorization": "b"}, trailers={"grpc-status": "0", "x-shard": "c"}
    )
    _, attributes = described(exchange, http.NamedHeaders(["x-tenant", "authorization"], ["x-shard"]))

    assert attributes["rpc.request.metadata.x-tenant"] == ("a",)
    assert attributes["rpc.request.metadata.authorization"] == ("REDACTED",)
    assert attributes["rpc.response.metadata.x-shard"] == ("c",)


def test_what_calls_share_follows_what_it_is_made_of() -> None:
    """One connection: the same object of fields, then others, an unknown authority, another version, the other end."""
    connection = rpc.Calls(ENDS)
    other = GRPC | {"host": "elsewhere:9", "user-agent": "grpc-java/1"}
    unknown = call()
    unknown.request.unknown = frozenset((":authority",))
    older = call()
    older.request.version = "1.1"
    for exchange in (call(), call(), call(headers=other), call(), unknown, call(), older, call(), call(serving=False)):
        found = rpc.read(exchange, Kind.SERVER if exchange.serving else Kind.CLIENT)
        assert found is not None
        alone = rpc.Calls(ENDS).describe(exchange, found, Redactor())[1].attributes
        assert connection.describe(exchange, found, Redactor())[1].attributes == alone


def test_calls_with_the_same_fields_share_one_object() -> None:
    """So that it is encoded once."""
    connection = rpc.Calls(ENDS)
    sets = []
    for headers in (GRPC, GRPC, dict(GRPC)):
        exchange = call(headers=headers)
        found = rpc.read(exchange, Kind.SERVER)
        assert found is not None
        sets.append(connection.describe(exchange, found, Redactor())[1])
    assert sets[0] is sets[1] is sets[2]


@pytest.mark.parametrize(
    ("number", "name"),
    [("00", "OK"), ("05", "NOT_FOUND"), ("17", "UNKNOWN"), ("005", "UNKNOWN"), ("\u0665", "UNKNOWN")],
)
def test_a_status_is_a_number_of_two_digits_at_most(number: str, name: str) -> None:
    """Whatever else a peer sends there is a status that nobody knows."""
    assert described(call(trailers={"grpc-status": number}))[1]["rpc.response.status_code"] == name
