"""One connection's conversation: its protocol, its messages in pairs, and what to do when bytes are missing.

    listening ── a request begins ──► speaking ── 101, CONNECT ──► opaque
        ▲                                │
        └── a hole took the framing ─────┘        listening ── three strikes ──► unknown

Listening is where every connection starts, and where it returns after a loss. A request is believed only where a
system call's bytes begin with one; what comes before it is not reported.

A conversation is *in step* when every response is known to answer the oldest open request: from the first byte of a
fresh connection, and again once a request and its response have met with nothing else open. Out of step, requests that
overlap (pipelining) leave two explanations for the next response. Then nothing is guessed: the exchanges are lost by
name, and the connection is left alone.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence

from otelbpf.connections.connection import Connection
from otelbpf.connections.stream import Piece, Stream
from otelbpf.events.wire import Flag
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols import detect
from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from otelbpf.telemetry.ledger import Ledger, Lost

STRIKES = 3
"""Turns of a conversation that may begin with something unknown before the connection is left alone."""
MAX_EARLY = 16
"""Pieces of the server's side that may wait for the request they answer."""

_HTTP2_PREFACE = b"PRI * HTTP/2.0"
_TLS_HANDSHAKE = b"\x16\x03"


class Phase(enum.Enum):
    """Where a conversation stands."""

    LISTENING = "listening"
    SPEAKING = "speaking"
    OVER = "over"
    """Opaque, or of no known protocol: its bytes are of no more use."""


class Session:
    """Turns one connection's pieces into exchanges."""

    __slots__ = (
        "_connection",
        "_doubtful",
        "_early",
        "_ended",
        "_head_limit",
        "_in_step",
        "_last_direction",
        "_ledger",
        "_max_open",
        "_open",
        "_parser",
        "_pipelines",
        "_prefix",
        "_prefix_direction",
        "_strikes",
        "_wanted",
        "copy_more",
        "peer_token",
        "phase",
        "serving",
    )

    def __init__(
        self, connection: Connection, *, ledger: Ledger, head_limit: int, max_open: int, wanted: frozenset[str]
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._head_limit = head_limit
        self._max_open = max_open
        self._wanted = wanted
        self.phase = Phase.LISTENING
        self.serving = not connection.flags & Flag.CLIENT
        """This end receives the requests."""
        self.copy_more = False
        """Requests overlap: heads lie behind bodies, so the source should copy more."""
        self.peer_token: object = None
        """What the correlation of both ends of a connection keeps; only it looks at it."""
        self._parser: Http1 | None = None
        self._open: deque[Exchange] = deque()
        self._early: list[Piece] = []
        self._ended: set[Side] = set()
        self._in_step = not connection.joined
        self._pipelines = False
        self._doubtful = False
        self._strikes = 0
        self._last_direction: bool | None = None
        self._prefix = b""
        self._prefix_direction = False

    # -- what the pipeline calls -----------------------------------------------------------------------------------

    def take(self, piece: Piece) -> list[Exchange]:
        """The next piece of one direction; exchanges that are over now.

        A send is recorded when its system call returns, and by then another thread may have read the answer: bytes of
        the server that no request precedes wait for it.
        """
        sent = piece.sent
        if sent is self.serving:
            if not self._open and self._in_step and self.phase is not Phase.OVER and len(self._early) < MAX_EARLY:
                self._early.append(piece)
                return []
            return self._take(sent, piece)
        done = self._take(sent, piece)
        if self._early and self._open:
            done += self.release()
        return done

    @property
    def waits(self) -> bool:
        """Bytes of the server wait for their request."""
        return bool(self._early)

    def end(self, sent: bool) -> list[Exchange]:
        """One direction has ended and all its bytes were taken."""
        parser = self._parser
        side = self._side(sent)
        if parser is None or side in self._ended:
            return []
        self._ended.add(side)
        try:
            return self._finish(parser.close(side))
        except ProtocolError:
            return self._give_up(Lost.UNPARSABLE)

    def close(self, error: str) -> list[Exchange]:
        """The connection is over; whatever is open ends here, with `error` where it did not end by itself."""
        done = self.release()
        whole = self._stream(self.serving).ended
        closing = [*self.end(self.serving), *self.end(not self.serving)]
        while self._open:
            closing.append(self._open.popleft())
        for exchange in closing:
            response = exchange.response
            if error or not whole or response is None or response.end < 0:
                exchange.error = error or "connection_closed"
            exchange.request_last_ns = exchange.request_last_ns or self._connection.touched_ns
            if response is not None:
                exchange.response_last_ns = exchange.response_last_ns or self._connection.touched_ns
        self._parser = None
        self.phase = Phase.OVER
        return done + closing

    def release(self) -> list[Exchange]:
        """Take the server's bytes that came before their request: none will come before them any more."""
        early, self._early = self._early, []
        done: list[Exchange] = []
        for piece in early:
            done += self._take(self.serving, piece)
        return done

    def abandon(self, reason: Lost) -> None:
        """Count everything still open as lost, and look no further."""
        self._ledger.spans_lost[reason] += len(self._open)
        self._open.clear()
        self._parser = None
        self.phase = Phase.OVER

    def _take(self, sent: bool, piece: Piece) -> list[Exchange]:
        if self.phase is Phase.SPEAKING:
            return self._speak(sent, piece)
        if self.phase is Phase.LISTENING:
            return self._listen(sent, piece)
        return []

    # -- listening -------------------------------------------------------------------------------------------------

    def _listen(self, sent: bool, piece: Piece) -> list[Exchange]:
        if piece.gap is not None:
            self._last_direction = sent
            self._in_step = False
            if self._prefix and self._prefix_direction is sent:
                # A first line longer than what is copied, or cut by a loss.
                self._ledger.requests_begun += 1
                self._ledger.spans_lost[Lost.GAP_IN_HEAD] += 1
                self._prefix = b""
            return []
        data = piece.data
        new_turn = self._last_direction is not sent
        self._last_direction = sent
        offset = piece.offset
        if self._prefix and self._prefix_direction is sent:
            data = self._prefix + data
            offset -= len(self._prefix)
        elif not new_turn and not self._may_begin(sent, piece):
            return []
        self._prefix = b""
        if data.startswith(_HTTP2_PREFACE):
            return self._over("http2")
        if data.startswith(_TLS_HANDSHAKE):
            return self._over("tls")
        verdict = detect.looks_like_request(data)
        if verdict is detect.Verdict.MORE and len(data) < self._head_limit:
            self._prefix, self._prefix_direction = data, sent
            return []
        if verdict is not detect.Verdict.YES:
            return self._strike(sent)
        return self._begin(sent, offset, data)

    def _may_begin(self, sent: bool, piece: Piece) -> bool:
        """Within a turn only the requests' side is worth a look: the rest of an upload can be many calls."""
        return sent is not self.serving and detect.looks_like_request(piece.data) is detect.Verdict.YES

    def _begin(self, sent: bool, offset: int, data: bytes) -> list[Exchange]:
        self.serving = not sent
        other = self._stream(not sent)
        starts = (offset, other.position)
        if not self._in_step:
            # Out of step, what the server said before this request cannot be its answer.
            now_ns = self._stream(sent).time_at(offset)
            self._early = [piece for piece in self._early if other.time_at(piece.offset) > now_ns]
        self._parser = Http1(starts, head_limit=self._head_limit, wanted=self._wanted)
        self.phase = Phase.SPEAKING
        return self._speak(sent, Piece(sent, offset, data))

    def _strike(self, sent: bool) -> list[Exchange]:
        """A turn began with something else. A response is none: its request may have come before the first sight."""
        if sent is self.serving and not self._in_step:
            return []
        self._strikes += 1
        self._in_step = False
        self._early.clear()
        return self._over("unknown_protocol") if self._strikes >= STRIKES else []

    def _over(self, why: str) -> list[Exchange]:
        self.phase = Phase.OVER
        self._parser = None
        self._early.clear()
        self._ledger.connections[why] += 1
        return []

    # -- speaking --------------------------------------------------------------------------------------------------

    def _speak(self, sent: bool, piece: Piece) -> list[Exchange]:
        parser = self._parser
        assert parser is not None
        side = Side.SERVER if sent is self.serving else Side.CLIENT
        gap = piece.gap
        try:
            messages = parser.receive(side, piece.data) if gap is None else parser.lose(side, gap)
        except ProtocolError as error:
            done = self._finish(error.messages)
            return done + self._after_error(side, gap)
        done = self._finish(messages) if messages else []
        self._stream(sent).forget(parser.needed_from(side))
        return done

    def _finish(self, messages: Sequence[Message]) -> list[Exchange]:
        """Pair messages in order (RFC 9112 section 9.3.2: responses in the order of their requests)."""
        done: list[Exchange] = []
        for message in messages:
            if message.side is Side.CLIENT:
                self._request(message)
            else:
                self._response(message)
            if self._open and self._is_over(self._open[0]):
                exchange = self._open.popleft()
                done.append(exchange)
                self._pipelines = self._pipelines or bool(self._open)
                self._in_step = self._in_step or not self._open
                if exchange.response is not None and exchange.response.upgrade:
                    # What was open behind this request never was HTTP.
                    self.abandon(Lost.UNPARSABLE)
                    self._ledger.connections["opaque"] += 1
            if self.phase is not Phase.SPEAKING:
                break
        return done

    def _request(self, message: Message) -> None:
        stream = self._stream(not self.serving)
        last_ns = stream.time_at(message.end - 1) if message.end >= 0 else 0
        if self._open and self._open[-1].request is message:
            self._open[-1].request_last_ns = last_ns
            return
        self._ledger.requests_begun += 1
        begin = message.begin
        first_ns = stream.time_at(begin)
        exchange = Exchange(message, stream.pid, first_ns, last_ns, serving=self.serving, offset=begin)
        self._open.append(exchange)
        if len(self._open) > 1:
            self._overlap()

    def _overlap(self) -> None:
        if len(self._open) > self._max_open:
            self._give_up(Lost.EVICTED)
        elif len(self._open) == 2:
            self.copy_more = True
            # Out of step, the next response may answer a request that was never seen; or a response was lost, and the
            # hole where it was will show.
            self._doubtful = not self._in_step

    def _response(self, message: Message) -> None:
        """Attach a response to the oldest request; one that answers none (RFC 9110 section 15.5.9) is nobody's."""
        if not self._open:
            self._in_step = False
            return
        if self._doubtful:
            self.abandon(Lost.JOINED_MIDWAY)
            self._ledger.connections["out_of_step"] += 1
            return
        exchange = self._open[0]
        stream = self._stream(self.serving)
        if exchange.response is None:
            exchange.response = message
            exchange.response_first_ns = stream.time_at(message.begin)
        if message.end >= 0:
            exchange.response_last_ns = stream.time_at(max(message.end - 1, message.begin))
            if message.incomplete is Incomplete.CLOSED:
                exchange.error = "connection_closed"
        if message.upgrade and exchange.request.end < 0:
            exchange.request_last_ns = exchange.response_first_ns

    def _is_over(self, exchange: Exchange) -> bool:
        response = exchange.response
        if response is None or response.end < 0:
            return False
        return exchange.request.end >= 0 or response.upgrade

    # -- losses ----------------------------------------------------------------------------------------------------

    def _after_error(self, side: Side, gap: Gap | None) -> list[Exchange]:
        if gap is not None:
            return self._give_up(Lost.GAP_IN_HEAD)
        if side is Side.CLIENT and not self._open:
            # It had begun like a request, and so counts as one.
            self._ledger.requests_begun += 1
            self._ledger.spans_lost[Lost.UNPARSABLE] += 1
        return self._give_up(Lost.UNPARSABLE)

    def _give_up(self, reason: Lost) -> list[Exchange]:
        """Lose what is open and listen anew; too often, and the connection is left alone."""
        ledger = self._ledger
        ledger.spans_lost[reason] += len(self._open)
        ledger.connections["resynced"] += 1
        self._open.clear()
        self._parser = None
        self._in_step = self._doubtful = False
        self._prefix = b""
        self._ended.clear()
        self.phase = Phase.LISTENING
        if self._pipelines:
            self._over("out_of_step")
        elif reason is Lost.UNPARSABLE:
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._over("unknown_protocol")
        return []

    # -- which bytes are whose -------------------------------------------------------------------------------------

    def _side(self, sent: bool) -> Side:
        return Side.SERVER if sent is self.serving else Side.CLIENT

    def _stream(self, sent: bool) -> Stream:
        return self._connection.sent if sent else self._connection.received


def make_sessions(
    *, ledger: Ledger, head_limit: int, max_open: int, wanted: frozenset[str]
) -> Callable[[Connection], Session]:
    """A function that starts the session of a connection."""

    def start(connection: Connection) -> Session:
        return Session(connection, ledger=ledger, head_limit=head_limit, max_open=max_open, wanted=wanted)

    return start
