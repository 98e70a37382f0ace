"""A connection of HTTP/2: any number of exchanges at once, each with a stream of its own (RFC 9113 section 5).

Which response answers which request is never in doubt here, because its stream says so. What can go wrong is less:
a response whose request was not seen is nobody's, a request whose end was not seen is lost by name, and a connection
whose framing is lost is read on where frames are found again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, cast

from otelbpf.connections.connection import Connection
from otelbpf.connections.piece import Piece
from otelbpf.connections.stream import Stream
from otelbpf.exchanges.base import Dialogue, Phase
from otelbpf.exchanges.exchange import UNSET, Exchange
from otelbpf.exchanges.pairing import given_up_ns
from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side, StreamMessage
from otelbpf.protocols.http2 import Http2
from otelbpf.telemetry.ledger import Ledger, Lost

STRIKES: Final = 3
"""How often a connection may turn out to speak something else before it is left alone."""
EARLY_NS: Final = 50_000_000
"""How long a response may wait for its request: a send is recorded when its call returns, and by then another thread
may have read the answer."""

ASKED: Final = 8
"""How often a source is told where frames begin."""

ERRORS: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""Names of the error codes by number (RFC 9113 section 7)."""
CLOSED: Final = "connection_closed"
UNKNOWN_ERROR: Final = "INTERNAL_ERROR"
"""What a code that nobody knows is to be taken for (the same)."""

_CLIENT: Final = Side.CLIENT
_SERVER: Final = Side.SERVER
_SIDES: Final = (Side.CLIENT, Side.SERVER)
"""By whether it is the server's."""
# Python 3.11 takes ten times as long for a member of an enum as for a name.
_OVER: Final = Phase.OVER
_CUT: Final = Incomplete.CLOSED


class _Answer:
    """A response that came before its request."""

    __slots__ = ("first_ns", "last_ns", "response")

    def __init__(self, response: StreamMessage, first_ns: int) -> None:
        self.response = response
        self.first_ns = first_ns
        self.last_ns = UNSET


class Streams(Dialogue):
    """Turns the pieces of one HTTP/2 connection into exchanges."""

    __slots__ = (
        "_answering",
        "_asking",
        "_connection",
        "_doubtful",
        "_early",
        "_ended",
        "_head_limit",
        "_ledger",
        "_max_open",
        "_newest",
        "_open",
        "_parser",
        "_serving",
        "_strikes",
        "_untold",
        "_wanted",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        ledger: Ledger,
        head_limit: int,
        max_open: int,
        wanted: frozenset[str],
        serving: bool,
        begin: tuple[int, int],
        fresh: bool,
        told: bool,
        upgraded: Exchange | None = None,
    ) -> None:
        """`begin`: stream offsets, client's and server's, of the first bytes to come. `fresh`: they are the first of
        HTTP/2. `told`: a source can know by itself that it is, and where frames begin. `upgraded`: the request of
        HTTP/1 that changed the protocol and is answered on stream 1 (RFC 7540 section 3.2)."""
        super().__init__(Phase.SPEAKING)
        # Heads lie behind other streams' bodies from the start.
        self.attention = True
        self._connection = connection
        self._ledger = ledger
        self._head_limit = head_limit
        self._max_open = max_open
        self._wanted = wanted
        self._serving = serving
        self._answering, self._asking = connection.sent, connection.received
        if not serving:
            self._answering, self._asking = self._asking, self._answering
        self._open: dict[int, Exchange] = {}
        self._newest = 0  # number of the newest stream that a request began
        self._early: OrderedDict[int, _Answer] = OrderedDict()
        self._doubtful: set[int] = set()  # open streams that may have ended where the framing was lost
        self._ended: tuple[bool, ...] = ()
        self._strikes = 0
        self._untold = 0 if told else ASKED  # how often the source is still told where frames begin
        self._parser = self._parse(begin, fresh=fresh)
        if upgraded is not None:
            self._open[1] = upgraded
            upgraded.running.now += 1
            self._newest = 1

    # -- what the pipeline calls -----------------------------------------------------------------------------------

    def take(self, sent: bool, offset: int, data: bytes) -> list[Exchange]:
        """See `Dialogue`."""
        if self.phase is _OVER:
            return []
        parser = self._parser
        side, stream = (_SERVER, self._answering) if sent is self._serving else (_CLIENT, self._asking)
        try:
            messages = parser.receive(side, data)
        except ProtocolError as error:
            return self._after_error(error, None)
        done = self._pair(messages) if messages else []
        stream.forget(parser.needed_from(side))
        if self._untold:
            self._tell()
        return done

    def take_piece(self, piece: Piece) -> list[Exchange]:
        """See `Dialogue`."""
        gap = piece.gap
        if gap is None:
            return self.take(piece.sent, piece.offset, piece.data)
        if self.phase is _OVER:
            return []
        parser = self._parser
        side, stream = (_SERVER, self._answering) if piece.sent is self._serving else (_CLIENT, self._asking)
        try:
            messages = parser.lose(side, gap)
        except ProtocolError as error:
            return self._after_error(error, gap)
        done = self._pair(messages)
        if parser.seeks(side):
            self._doubtful.update(self._open)
            self._untold = ASKED
        stream.forget(parser.needed_from(side))
        return done

    @property
    def waits(self) -> bool:
        """Responses wait for their requests."""
        return bool(self._early)

    @property
    def overlaps(self) -> bool:
        """Always: that is what the protocol is for."""
        return self.phase is not _OVER

    def end(self, sent: bool) -> list[Exchange]:
        """See `Dialogue`."""
        if sent in self._ended or self.phase is _OVER:
            return []
        self._ended += (sent,)
        try:
            return self._pair(self._parser.close(_SIDES[sent is self._serving]))
        except ProtocolError as error:
            return self._after_error(error, None)

    def close(self, error: str) -> list[Exchange]:
        """See `Dialogue`."""
        closing = [*self.end(self._serving), *self.end(not self._serving)]
        for exchange in closing:
            if exchange.error == CLOSED and error:
                exchange.error = error
        now_ns = self._connection.touched_ns
        for number, exchange in self._open.items():
            if exchange.response_last_ns == UNSET:
                if number in self._doubtful:
                    self._ledger.spans_lost[Lost.GAP_IN_BODY] += 1
                    continue
                exchange.error = error or CLOSED
                answered = exchange.response is not None
                exchange.response_last_ns = now_ns if answered else given_up_ns(exchange, self._connection)
            if exchange.request_last_ns == UNSET:
                exchange.request_last_ns = now_ns
            closing.append(exchange)
        self._forget_open()
        self._early.clear()
        self.phase = _OVER
        return closing

    def release(self) -> list[Exchange]:
        """See `Dialogue`: the responses that waited answer requests that were not seen."""
        self._early.clear()
        return []

    def abandon(self, reason: Lost) -> None:
        """See `Dialogue`."""
        self._lose_open(reason)
        self._early.clear()
        self.phase = _OVER
        self.attention = True

    # -- messages to exchanges -------------------------------------------------------------------------------------

    def _pair(self, messages: Sequence[Message]) -> list[Exchange]:
        client, server = self._asking, self._answering
        waiting = self._open
        done: list[Exchange] = []
        for message in cast(Sequence[StreamMessage], messages):
            number = message.stream
            if not number & 1:
                continue  # pushed: nobody asked (RFC 9113 section 8.4)
            exchange = waiting.get(number)
            if message.side is _CLIENT:
                answered = exchange is not None and exchange.response_last_ns != UNSET
                exchange = self._ask(exchange, message, client)
            elif exchange is None:
                self._keep(message, server)
                continue
            else:
                answered = exchange.response_last_ns != UNSET
                _answer(exchange, message, server)
            if exchange is None:
                continue
            if message.reset >= 0:
                self._reset(exchange, message.reset, answered=answered)
            elif exchange.response_last_ns == UNSET or exchange.request_last_ns == UNSET:
                continue
            del waiting[number]
            exchange.running.now -= 1
            if self._doubtful and number in self._doubtful:
                self._doubtful.remove(number)
                if message.incomplete is _CUT:
                    self._ledger.spans_lost[Lost.GAP_IN_BODY] += 1
                    continue
            done.append(exchange)
        return done

    def _ask(self, exchange: Exchange | None, message: StreamMessage, stream: Stream) -> Exchange | None:
        """A request began, or ended; None for one whose exchange is over."""
        number, begin, end = message.stream, message.begin, message.end
        last_ns = stream.time_at(max(end - 1, begin)) if end >= 0 else UNSET
        if exchange is not None:
            if exchange.request_last_ns == UNSET:
                cut_off = message.reset >= 0 and exchange.response_last_ns != UNSET
                exchange.request_last_ns = exchange.response_last_ns if cut_off else last_ns
            return exchange
        if number <= self._newest:
            return None
        self._newest = number
        ledger = self._ledger
        ledger.requests_begun += 1
        pid, serving = stream.pid, self._serving
        running = ledger.begin_request(pid, serving, stream.waited_us_at(begin))
        exchange = Exchange(
            message, pid, stream.time_at(begin), last_ns, serving=serving, running=running, offset=begin
        )
        waiting = self._open
        if len(waiting) >= self._max_open:
            oldest = next(iter(waiting))
            waiting.pop(oldest).running.now -= 1
            self._doubtful.discard(oldest)
            self._ledger.spans_lost[Lost.EVICTED] += 1
        waiting[number] = exchange
        if self._parser.seeks(_SERVER):
            self._doubtful.add(number)  # its answer may be passed over
        if self._early:
            early = self._early.pop(number, None)
            if early is not None:
                exchange.response = early.response
                exchange.response_first_ns, exchange.response_last_ns = early.first_ns, early.last_ns
                # It was stamped when its call had returned: it cannot have begun later than its answer.
                exchange.request_first_ns = min(exchange.request_first_ns, early.first_ns)
        return exchange

    def _keep(self, message: StreamMessage, stream: Stream) -> None:
        """A response to a request that has not been seen yet waits for it; one to a request that is over does not."""
        if message.stream <= self._newest:
            return
        early = self._early
        answer = early.get(message.stream)
        if answer is None:
            first_ns = stream.time_at(message.begin)
            while early and (len(early) >= self._max_open or first_ns - next(iter(early.values())).first_ns > EARLY_NS):
                early.popitem(last=False)
            answer = early[message.stream] = _Answer(message, first_ns)
            self.attention = True
        if message.end >= 0:
            answer.last_ns = stream.time_at(max(message.end - 1, message.begin))

    def _reset(self, exchange: Exchange, code: int, *, answered: bool) -> None:
        """The stream was reset. Behind a whole response that is how a server says that it needs no more of the request
        (RFC 9113 section 8.1), and how a client says the same of its own."""
        if answered or _has_all(exchange):
            if exchange.response_last_ns == UNSET:
                exchange.response_last_ns = self._connection.touched_ns
            if exchange.request_last_ns == UNSET:
                exchange.request_last_ns = exchange.response_last_ns
            return
        exchange.error = ERRORS[code] if code < len(ERRORS) else UNKNOWN_ERROR
        exchange.response_last_ns = self._connection.touched_ns
        if exchange.request_last_ns == UNSET:
            exchange.request_last_ns = exchange.response_last_ns

    def _tell(self) -> None:
        """By the time a source hears of it, it may be further: so it is told several times."""
        client, server = self._parser.next_frame(_CLIENT), self._parser.next_frame(_SERVER)
        if client >= 0 and server >= 0:
            self._untold -= 1
            self.frames = (client, server) if self._serving else (server, client)
            self.attention = True

    # -- losses ----------------------------------------------------------------------------------------------------

    def _after_error(self, error: ProtocolError, gap: Gap | None) -> list[Exchange]:
        """The framing is lost, or it is no HTTP/2: what is open can have ended unseen."""
        done = self._pair(error.messages)
        self._lose_open(Lost.UNPARSABLE if gap is None else Lost.GAP_IN_BODY)
        self._ledger.connections["resynced"] += 1
        if gap is None:
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._ledger.connections["unknown_protocol"] += 1
                self.abandon(Lost.UNPARSABLE)
                return done
        self._parser = self._parse((self._asking.position, self._answering.position), fresh=False)
        self._untold = ASKED
        return done

    def _lose_open(self, reason: Lost) -> None:
        if self._open:
            self._ledger.spans_lost[reason] += len(self._open)
            self._forget_open()

    def _forget_open(self) -> None:
        for exchange in self._open.values():
            exchange.running.now -= 1
        self._open.clear()
        self._doubtful.clear()

    def _parse(self, begin: tuple[int, int], *, fresh: bool) -> Http2:
        return Http2(begin, wanted=self._wanted, head_limit=self._head_limit, fresh=fresh, max_streams=self._max_open)


def _answer(exchange: Exchange, message: StreamMessage, stream: Stream) -> None:
    if exchange.response is None:
        exchange.response = message
        exchange.response_first_ns = stream.time_at(message.begin)
    if message.end >= 0:
        exchange.response_last_ns = stream.time_at(max(message.end - 1, message.begin))
        if message.incomplete is _CUT:
            if _has_all(exchange):
                message.incomplete = Incomplete.NONE
            else:
                exchange.error = CLOSED


def _has_all(exchange: Exchange) -> bool:
    """Whether a response has the content it announced, or can have none (RFC 9110 section 6.4.1): who leaves then, and
    not when an empty frame has ended the stream, lacks nothing."""
    response = exchange.response
    if response is None:
        return False
    if exchange.request.method == "HEAD" or response.status in (204, 304):
        return True
    return response.headers.get("content-length") == str(response.body_size)
