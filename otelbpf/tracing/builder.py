"""Exchanges to spans: ids, parent, times, name, attributes, status. The only place that knows what a span needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from otelbpf.connections.address import parse_endpoints
from otelbpf.connections.connection import Connection
from otelbpf.exchanges.exchange import Exchange
from otelbpf.telemetry.ledger import Ledger, Lost
from otelbpf.tracing.conventions import http, rpc
from otelbpf.tracing.conventions.tls import describe
from otelbpf.tracing.correlate import Correlator, Link
from otelbpf.tracing.ids import IdGenerator
from otelbpf.tracing.options import SpanOptions
from otelbpf.tracing.propagation import SAMPLED, Context, read_context
from otelbpf.tracing.redact import Redactor
from otelbpf.tracing.routes import Route, Routes, Tree
from otelbpf.tracing.span import AttributeSet, Exemplars, Kind, Resource, Span, Status, service_of

# Python 3.11 takes ten times as long for a member of an enum as for a name.
_CLIENT: Final = Kind.CLIENT
_SERVER: Final = Kind.SERVER
_ERROR: Final = Status.ERROR
_REMOTE_IS_KNOWN: Final = 0x100
_REMOTE: Final = 0x200
_ROOT: Final = b""


class Record(Protocol):
    """Counts an exchange, sampled or not: see metrics.exchanges."""

    def __call__(
        self,
        exchange: Exchange,
        resource: Resource,
        peer: Resource | None,
        shared: AttributeSet,
        route: Route | None,
        method: str | None,
        code: str,
        error_type: str,
        failed: bool,
        /,
    ) -> tuple[Exemplars, int, float]: ...


ResourceOf = Callable[[int, int, bytes], Resource]
"""(process id, time in source nanoseconds, raw endpoints) to who that was."""


class Builder:
    """Makes the span of an exchange, unless the sampler leaves it out."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        ids: IdGenerator,
        options: SpanOptions,
        resource_of: ResourceOf,
        correlator: Correlator,
        record: Record,
    ) -> None:
        self._record = record
        self._ledger = ledger
        self._ids = ids
        self._sample = options.sample
        self._redactor = Redactor(options.secret_keys)
        self._routes = Routes(options.route_patterns, learn=options.learn_routes, max_of_service=options.max_routes)
        self._resource_of = resource_of
        self._correlator = correlator
        self._named_headers = options.named_headers()
        self._methods = frozenset(options.known_methods)
        self.clock_offset_ns = 0
        """What makes Unix time of the source's time."""

    def build(self, exchange: Exchange, connection: Connection) -> Span | None:
        """The span of an exchange, which is counted; None (and counted as that) where it is sampled out."""
        request = exchange.request
        kind = _SERVER if exchange.serving else _CLIENT
        call = rpc.read(exchange, kind) if "content-type" in request.headers or request.unknown else None
        parent = read_context(request.headers) if "traceparent" in request.headers else None
        link = self._correlator.link(connection)
        trace_id, span_id, parent_id = self._identify(exchange, link, parent)
        resource = self._resource_of(exchange.pid, exchange.request_first_ns, connection.endpoints)
        peer = None
        if link is not None:
            peer = self._peer(link.client if exchange.serving else link.server, exchange)
        elif connection.joined and (other := self._correlator.other_end(connection)) is not None:
            peer = self._peer(other, exchange)
        route = None
        if call is None:
            status, error_type = http.status(exchange, kind)
            conversation = self._conversation(connection)
            tree = conversation.routes or self._routes_of(conversation, exchange, resource, peer)
            response = exchange.response
            route = tree.find(request.target, 0 if response is None else response.status)
            name = http.span_name(request, self._methods)
            if route is not None:
                name = route.name(name)
            attributes, shared = conversation.describe(exchange, self._redactor, error_type, route)
        else:
            name = call.span_name
            status, error_type = call.status, call.error_type
            attributes, shared = self._calls_of(connection).describe(exchange, call, self._redactor)
        offset_ns = self.clock_offset_ns
        # A response may be over while its request is still being sent.
        last_ns = exchange.response_last_ns
        if last_ns < exchange.request_last_ns:
            last_ns = exchange.request_last_ns
        exemplars, bucket, seconds = self._record(
            exchange,
            resource,
            peer,
            shared,
            route,
            None if call is None else call.method,
            "" if call is None else call.code,
            error_type,
            status is _ERROR,
        )
        if not self._sample(trace_id, name, parent):
            self._ledger.spans_lost[Lost.SAMPLED_OUT] += 1
            return None
        end_ns = last_ns + offset_ns
        exemplars[bucket] = (seconds, trace_id, span_id, end_ns)
        self._ledger.spans += 1
        return Span(
            trace_id,
            span_id,
            parent_id,
            SAMPLED | _REMOTE_IS_KNOWN | (_REMOTE if parent_id else 0),
            parent.trace_state if parent is not None else "",
            name,
            kind,
            exchange.request_first_ns + offset_ns,
            end_ns,
            attributes,
            status,
            resource,
            shared,
        )

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        connection.conversation = connection.calls = None
        self._correlator.forget(connection)

    def _conversation(self, connection: Connection) -> http.Conversation:
        conversation = connection.conversation
        if not isinstance(conversation, http.Conversation):
            ends = parse_endpoints(connection.endpoints)
            conversation = http.Conversation(
                ends, self._named_headers, secured=describe(connection), methods=self._methods
            )
            connection.conversation = conversation
        return conversation

    def _routes_of(
        self, conversation: http.Conversation, exchange: Exchange, resource: Resource, peer: Resource | None
    ) -> Tree:
        """The routes of the service that is asked, by its name where that is known: both ends then know the same."""
        if exchange.serving or peer is not None:
            service = service_of(resource if exchange.serving or peer is None else peer)
        else:
            service = conversation.asked(exchange.request)
        tree = conversation.routes = self._routes.tree(service)
        return tree

    def _calls_of(self, connection: Connection) -> rpc.Calls:
        calls = connection.calls
        if not isinstance(calls, rpc.Calls):
            ends = parse_endpoints(connection.endpoints)
            calls = rpc.Calls(ends, self._named_headers, secured=describe(connection))
            connection.calls = calls
        return calls

    def _peer(self, other: Connection, exchange: Exchange) -> Resource | None:
        """Who is at the other end, where anybody was seen to work at it."""
        pid = other.sent.pid or other.received.pid
        return self._resource_of(pid, exchange.request_first_ns, other.endpoints) if pid else None

    def _identify(self, exchange: Exchange, link: Link | None, parent: Context | None) -> tuple[bytes, bytes, bytes]:
        """Trace id, span id, parent id. What the request says of its parent wins; else the other end is the parent."""
        if parent is not None:
            return parent.trace_id, self._ids.span_id(), parent.span_id
        if link is None:
            return self._ids.trace_id(), self._ids.span_id(), _ROOT
        shared = link.ids_of(exchange.offset)
        if exchange.serving:
            return shared.trace_id, self._ids.span_id(), shared.client_span_id
        return shared.trace_id, shared.client_span_id, _ROOT
