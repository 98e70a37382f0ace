"""Wires the stages: records in, spans out. The only file that knows them all; it adds no rule of its own.

record ─decode─► event ─tracker─► connection ─streams─► pieces ─session─► exchanges ─builder─► spans ─► emit
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import Final, get_args

from otelbpf.connections.connection import Connection
from otelbpf.connections.piece import Piece
from otelbpf.connections.tracker import Tracker
from otelbpf.events.decode import RecordError, decode
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Clock, Event, Host, Identity, Losses, ProcessSeen, Tls
from otelbpf.events.wire import Flag, Loss, TcpState, TlsEvent
from otelbpf.exchanges.base import Dialogue, Phase
from otelbpf.exchanges.exchange import Exchange
from otelbpf.exchanges.session import Session
from otelbpf.identity.directory import Directory
from otelbpf.metrics.measures import Measures
from otelbpf.metrics.options import DEFAULT_METRICS, MetricsOptions
from otelbpf.sources.base import Source
from otelbpf.telemetry.ledger import Ledger, Lost
from otelbpf.tls.encryption import Encryption
from otelbpf.tls.ends import CipherEnd, PlainEnd
from otelbpf.tls.unread import Unread
from otelbpf.tracing.builder import Builder
from otelbpf.tracing.correlate import Correlator
from otelbpf.tracing.ids import IdGenerator
from otelbpf.tracing.options import DEFAULT_OPTIONS, SpanOptions
from otelbpf.tracing.span import Resource, Span

Emit = Callable[[Sequence[Span]], None]
"""Takes spans that are done; must not block and must not fail."""
EARLY_WAIT_NS: Final = 50_000_000
"""How long a server's bytes may wait for the request that they answer (see exchanges.session)."""

# An IntFlag member's operators are calls into Python.
_SENT: Final = int(Flag.SENT)
_ESTABLISHED: Final = TcpState.ESTABLISHED
_CLOSE: Final = TcpState.CLOSE
_KIND_NAMES: Final[dict[type[Event], str]] = {k: k.__name__.lower() for k in get_args(Event)} | {ProcessSeen: "process"}


class Pipeline:
    """Everything between a source and the exporters, on one thread."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        emit: Emit,
        source: Source,
        max_connections: int = 65536,
        max_open_exchanges: int = 1024,
        head_limit: int = 65536,
        options: SpanOptions = DEFAULT_OPTIONS,
        metrics: MetricsOptions = DEFAULT_METRICS,
        traced: Callable[[Identity], bool] | None = None,
        unread: Callable[[Identity], None] | None = None,
        seed: int | None = None,
    ) -> None:
        """`traced` tells whether a process belongs to those asked for; its requests are left out, counted, otherwise.
        `unread` is told, once each, of processes whose TLS cannot be read. `seed` makes ids repeatable."""
        ids = IdGenerator(seed)
        self._ledger = ledger
        self._emit = emit
        self._source = source
        self._max_open = max_open_exchanges
        self._head_limit = head_limit
        self._traced = traced
        self._wanted = options.named_headers().wanted
        self._directory = Directory(Resource, extra=options.resource_extra)
        self._correlator = Correlator(ids, reported=self._is_reported, filtered=traced is not None)
        self.measures = Measures(
            self._directory.resource_of, wanted=self._is_traced, max_connections=max_connections, options=metrics
        )
        self._builder = Builder(
            ledger=ledger,
            ids=ids,
            options=options,
            resource_of=self._directory.resource_of,
            correlator=self._correlator,
            record=self.measures.exchanges.record,
        )
        self._tls = Encryption(
            ledger=ledger,
            mute=source.mute,
            tell=self._build,
            bound=self._on_bound,
            forget=self._forget_spans,
            unread=Unread(unread, self._directory.identity_of) if unread is not None else lambda pid: None,
        )
        self._tracker = Tracker(
            ledger=ledger,
            max_connections=max_connections,
            mute=source.mute,
            evicted=self._on_evicted,
            begin_plain=self._tls.begin,
        )
        ledger.begin_request = self.measures.requests.begin
        self._early: dict[bytes, Connection] = {}
        self._over: list[tuple[Connection, Sequence[Exchange]]] = []
        self._spans: list[Span] = []
        self._now_ns = 0
        self._others: dict[type[Event], Callable[..., None]] = {
            State: self._state,
            Tls: self._tls_session,
            Clock: self._clock,
            Identity: self._identity,
            ProcessSeen: self._directory.see,
            Host: self._host,
            **self.measures.takers,
            Losses: self._losses,
        }

    def feed(self, records: Sequence[bytes]) -> None:
        """Take a batch of records and hand the spans that come of it to `emit`."""
        counts = self._ledger.records
        data = 0
        for record in records:
            try:
                event = decode(record)
            except RecordError as error:
                counts[error.outcome] += 1
                continue
            if type(event) is Data:
                data += 1
                self._data(event)
            else:
                counts[_KIND_NAMES[type(event)]] += 1
                self._make_spans()
                self._others[type(event)](event)
        if data:
            counts["data"] += data
        self._make_spans()
        if self._spans:
            spans, self._spans = self._spans, []
            self._emit(spans)

    def finish(self) -> None:
        """The source has ended: what is whole was exported, what is still open is lost by name."""
        for connection in list(self._tracker):
            self._deliver(connection, connection.finish(0, 0, self._now_ns))
            session = connection.attachment
            if isinstance(session, Dialogue):
                self._abandon(connection, session)
            self._tls.plain_over(connection, last=True)
        self._tls.finish()
        self.measures.connections.finish(self._now_ns)
        self.feed(())

    @property
    def open_connections(self) -> int:
        """Connections in the table now."""
        return len(self._tracker)

    # -- events ----------------------------------------------------------------------------------------------------

    def _data(self, event: Data) -> None:
        connection = self._tracker.find(event)
        if connection is None:
            return
        if connection.tls is not None:
            self._tls.note(connection, event)
        if connection.add_whole(event):
            session = connection.attachment
            if not isinstance(session, Dialogue):
                session = self._start_session(connection)
            done = session.take(bool(event.flags & _SENT), event.offset, event.data)
            if done:
                self._done(connection, done)
            if session.attention or connection.ending:
                self._attend(connection, session)
            return
        self._deliver(connection, connection.add(event))
        if connection.held:
            self._tracker.note_waiting(connection)

    def _state(self, event: State) -> None:
        self.measures.connections.note(event)
        connection = self._tracker.state(event)
        over = event.new_state is _CLOSE or event.new_state is event.old_state
        if connection is not None:
            if event.new_state is _ESTABLISHED and event.old_state is not event.new_state:
                self._correlator.note(connection)
            if connection.ending:
                self._end_streams(connection)
            if over:
                self._end(connection, event)
        if over:
            self._tracker.settle(event)

    def _end(self, connection: Connection, event: State) -> None:
        """The kernel's last word: the socket is closed, or still open when the source ends (its open exchanges are then
        lost by name)."""
        self._deliver(connection, connection.finish(event.sent, event.received, event.time_ns))
        session, error = connection.attachment, errno.errorcode.get(event.error, "")
        if isinstance(session, Dialogue):
            if event.new_state is _CLOSE:
                self._done(connection, session.close(error))
            else:
                self._abandon(connection, session)
        if connection.tls is not None:
            self._tls.socket_over(connection, error, event.time_ns)
        self._forget(connection)

    def _abandon(self, connection: Connection, session: Dialogue) -> None:
        self._done(connection, session.release())
        session.abandon(Lost.FILTERED if self._tls.leaves_out(connection) else Lost.SHUTDOWN)

    def _tls_session(self, event: Tls) -> None:
        # The end may have been told of already, by that of its socket: only a socket opens an account.
        bound = event.event is TlsEvent.BOUND
        connection = self._tracker.find(event) if bound else self._tracker.get(event.key)
        if connection is None:
            return
        if bound:
            carrier = self._tracker.get(event.carrier)
            session = carrier.attachment if carrier is not None else None
            phase = session.phase if isinstance(session, Dialogue) else None
            if phase is Phase.SPEAKING:
                return  # a socket that speaks in the clear carries nobody's TLS
            tunnelled = phase is Phase.OVER and carrier is not None and carrier.tls is None
            if isinstance(session, Session) and phase is Phase.LISTENING:
                session.encrypted()
            self._tls.bind(connection, event, carrier, tunnelled=tunnelled)
            return
        self._deliver(connection, connection.finish(event.sent, event.received, event.time_ns))
        connection.sent.end = event.sent
        connection.touched_ns = event.time_ns
        connection.closing_ns = connection.closing_ns or event.time_ns
        if event.event is TlsEvent.SHUT:
            self._end_streams(connection)
        else:
            if event.event is TlsEvent.REFUSED and isinstance(connection.attachment, Dialogue):
                connection.attachment.abandon(Lost.EARLY_DATA_REFUSED)
            connection.received.end = event.received
            self._end_plain(connection)
            self._tracker.settle_plain(connection, event)

    def _end_plain(self, connection: Connection) -> None:
        """The plain text of a TLS session is over."""
        session, end = connection.attachment, connection.tls
        if isinstance(session, Dialogue) and isinstance(end, PlainEnd):
            self._done(connection, session.close(end.error))
        connection.attachment = None
        self._early.pop(connection.key, None)
        if not self._tls.plain_over(connection):
            self._forget_spans(connection)

    def _clock(self, event: Clock) -> None:
        self._builder.clock_offset_ns = event.offset_ns
        self._now_ns = event.time_ns
        self.measures.tick(event.time_ns, self._tracker.get)
        for connection in self._tracker.overdue():
            self._deliver(connection, connection.overdue(event.time_ns))
        for connection in self._tls.due(event.time_ns):
            self._end_plain(connection)
            self._tracker.drop(connection)
        for key, connection in list(self._early.items()):
            if event.time_ns - connection.touched_ns > EARLY_WAIT_NS:
                del self._early[key]
                session = connection.attachment
                if isinstance(session, Dialogue):
                    self._done(connection, session.release())

    def _identity(self, event: Identity) -> None:
        self._directory.add(event)
        self.measures.requests.forget(event.pid)

    def _host(self, event: Host) -> None:
        self._directory.set_host(event)
        self._tls.addressed_only = event.addressed_only

    def _losses(self, event: Losses) -> None:
        self._ledger.kernel_losses = {
            loss.name.lower(): counts for loss, counts in zip(Loss, event.counts, strict=True)
        }

    # -- bytes to spans --------------------------------------------------------------------------------------------

    def _deliver(self, connection: Connection, pieces: Iterable[Piece]) -> None:
        session = connection.attachment
        if not isinstance(session, Dialogue):
            session = self._start_session(connection)
        for piece in pieces:
            done = session.take_piece(piece)
            if done:
                self._done(connection, done)
        self._attend(connection, session)

    def _start_session(self, connection: Connection) -> Dialogue:
        session = Session(
            connection,
            ledger=self._ledger,
            head_limit=self._head_limit,
            max_open=self._max_open,
            wanted=self._wanted,
        )
        connection.attachment = session
        self._correlator.meet(connection)
        self.measures.meet(connection)
        return session

    def _attend(self, connection: Connection, session: Dialogue) -> None:
        """What a session or a stream needs beyond its bytes."""
        if session.heir is not None:
            connection.attachment = session = session.heir
        if connection.ending:
            self._end_streams(connection)
        session.attention = False
        if session.waits:
            self._early[connection.key] = connection
        if session.overlaps and not connection.copied_more:
            connection.copied_more = True
            self._source.copy_more(connection.key)
        if session.frames is not None:
            self._source.walk_frames(connection.key, *session.frames)
            session.frames = None
        if session.opening is not None:
            self._tls.encrypt(connection, session.opening.sent, session.opening.data)
            session.opening = None
        if session.phase is Phase.OVER and not connection.muted and not isinstance(connection.tls, CipherEnd):
            connection.muted = True
            self._source.mute(connection.key)

    def _end_streams(self, connection: Connection) -> None:
        session = connection.attachment
        if not isinstance(session, Dialogue):
            return
        for sent, stream in ((True, connection.sent), (False, connection.received)):
            if stream.ended:
                self._done(connection, session.end(sent))

    def _done(self, connection: Connection, exchanges: Sequence[Exchange]) -> None:
        if exchanges and connection.tls is not None:
            exchanges = self._tls.pass_on(connection, exchanges, exchanges[-1].request_first_ns)
        self._build(connection, exchanges)

    def _build(self, connection: Connection, exchanges: Sequence[Exchange]) -> None:
        """Spans are made of many exchanges in a row, because that costs a third less than one at a time between other
        work; but at the latest when something may change what they are made of. Of data that is so where there is TLS;
        of all other events everywhere."""
        if exchanges:
            self._over.append((connection, exchanges))
            if connection.tls is not None:
                self._make_spans()

    def _make_spans(self) -> None:
        if not self._over:
            return
        over, self._over = self._over, []
        builder, spans = self._builder, self._spans
        for connection, exchanges in over:
            for exchange in exchanges:
                if self._traced is not None and not self._is_traced(exchange.pid):
                    self._ledger.spans_lost[Lost.FILTERED] += 1
                    continue
                span = builder.build(exchange, connection)
                if span is not None:
                    spans.append(span)

    def _is_traced(self, pid: int) -> bool:
        return self._traced is None or self._directory.matches(pid, self._traced)

    def _is_reported(self, client: Connection) -> bool:
        """Whether the requests of a socket become spans, the ends of all connections being equal."""
        if isinstance(client.tls, CipherEnd) and not client.tls.readable:
            return False
        return self._is_traced(client.sent.pid)

    def _on_bound(self, plain: Connection, carrier: Connection) -> Connection | None:
        """A server's spans need to know of the client's, should it be on this host."""
        link = self._correlator.share(plain, carrier)
        return link.client if link is not None and link.client is not carrier else None

    # -- the end of a connection -----------------------------------------------------------------------------------

    def _on_evicted(self, connection: Connection) -> None:
        session = connection.attachment
        if isinstance(session, Dialogue):
            session.abandon(Lost.EVICTED)
        if connection.tls is not None:
            self._tls.plain_over(connection, last=True)
            self._tls.socket_over(connection, "", self._now_ns)
        self._forget(connection)

    def _forget_spans(self, connection: Connection) -> None:
        self._make_spans()
        self._builder.forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._early.pop(connection.key, None)
        self._forget_spans(connection)
        # Session and connection know each other: apart, both go at once and without the garbage collector.
        connection.attachment = None
