"""Which response answers which request: on HTTP/1 the oldest that is open (RFC 9112 section 9.3.2).

A conversation is *in step* when that is certain: from the first byte of a fresh connection, and again once a request
and its response have met with nothing else open. Out of step, requests that overlap (pipelining) leave two explanations
for the next response; then nothing is guessed.

Where a client's bytes were lost, requests may have been among them, and how many answers are still to come is known
only of a client that takes turns: one request, its answer, the next request. So, after such a loss,

- a client that has been seen to pipeline is not listened to any more;
- one that was not understood is believed only after a long silence of the server;
- a request is believed only if the server has spoken since, and only of a client that had taken turns before, or
  once the server has been silent for long: whoever owes answers gives them;
- a pair waits until its turn is over: the next request begins, or no second answer comes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.connections.stream import Stream
from otelbpf.events.wire import Flag
from otelbpf.exchanges.exchange import UNSET, Exchange
from otelbpf.protocols import detect
from otelbpf.protocols.base import Incomplete, Message, Side
from otelbpf.telemetry.ledger import Ledger, Lost

_JOINED: Final = int(Flag.JOINED)
_CLIENT_END: Final = int(Flag.CLIENT)
_SERVER_END: Final = int(Flag.SERVER)
_CLIENT: Final = Side.CLIENT

TURNS: Final = 4
"""Requests that came when all before them were answered make a client one that takes turns."""
SILENCE_NS: Final = 1_000_000_000
"""A server that has said nothing for so long owes no answers."""


class Verdict(enum.Enum):
    """Why a conversation cannot go on as it was."""

    OPAQUE = "opaque"
    """It has changed to something else (101, CONNECT)."""
    OUT_OF_STEP = "out_of_step"
    """A response may answer either of two requests."""
    STALE = "stale"
    """A response came that cannot answer the oldest request: it answers one that was not seen, or not yet."""
    MALFORMED = "malformed"
    """A request that is none by the rules has its answer: where another one begins is not known."""
    TOO_MANY = "too_many"
    """More requests are open than are kept."""


class Pairing:
    """The open exchanges of one connection, oldest first."""

    __slots__ = (
        "_denied",
        "_doubtful",
        "_kept",
        "_ledger",
        "_missed_ns",
        "_owing",
        "_turns",
        "_unasked",
        "_wondered_ns",
        "_wondering",
        "guesses",
        "hidden",
        "in_step",
        "max_open",
        "open",
        "pipelines",
        "serving",
        "verdict",
    )

    def __init__(self, *, ledger: Ledger, max_open: int, flags: int) -> None:
        """`flags`: the connection's (events.wire.Flag)."""
        self._ledger = ledger
        self.max_open = max_open
        self._doubtful = False
        self._kept: Exchange | None = None  # paired out of step, in a turn that may not be over
        self._missed_ns = UNSET  # when bytes were lost among which a request may have been
        self._owing = UNSET  # until the server goes on from this offset no request is believed
        self._denied = False  # a request was not believed for that
        self._turns = 0  # requests that came when nothing was open
        self._unasked: Message | None = None  # a response that answers nobody
        self._wondering = False  # a client's turn began with something unknown, at a time, and has no answer yet
        self._wondered_ns = UNSET
        # A list: it hardly ever has two, and an empty deque takes 760 bytes of every connection.
        self.open: list[Exchange] = []
        self.in_step = not flags & _JOINED
        self.hidden = False
        """A request may have been in what was not copied, or not kept: answers are looked at as if out of step."""
        self.pipelines = False
        """A response began while a later request was open too."""
        self.serving = not flags & _CLIENT_END
        """This end receives the requests."""
        self.guesses = not flags & (_CLIENT_END | _SERVER_END)
        """That is not known."""
        self.verdict: Verdict | None = None

    def pair(self, messages: Sequence[Message], client: Stream, server: Stream) -> list[Exchange]:
        """Take messages of either side in the order they were seen; exchanges that are over. Stops at a verdict."""
        done: list[Exchange] = []
        waiting = self.open
        for message in messages:
            if message.side is _CLIENT:
                if self._kept is not None:
                    done += self.settle()
                self._request(message, client, server)
            else:
                self._response(message, server)
            if self.verdict is not None:
                break
            if waiting:
                # By what was announced, not by what the messages know: they may be ahead of their announcements.
                exchange = waiting[0]
                response = exchange.response
                if response is None or exchange.response_last_ns == UNSET:
                    continue
                if exchange.request_last_ns != UNSET or response.upgrade:
                    waiting.pop(0)
                    exchange.running.now -= 1
                    if response.upgrade:
                        done.append(exchange)
                        self.verdict = Verdict.OPAQUE
                        break
                    if self.in_step or waiting:
                        done.append(exchange)
                    else:
                        self._kept = exchange
                    if exchange.request.incomplete is Incomplete.MALFORMED:
                        self.verdict = Verdict.MALFORMED
                        break
        return done

    # -- losses ----------------------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """A pair is in doubt as long as a second answer may come."""
        return self._kept is not None

    def settle(self) -> list[Exchange]:
        """No second answer has come: the pair that waited for it was one, and whoever talks is in step again."""
        kept, self._kept = self._kept, None
        if kept is None:
            return []
        self.in_step = True
        self._missed_ns = UNSET
        self._owing = UNSET
        return [kept]

    def lose(self, reason: Lost) -> None:
        """What is open cannot be known any more, and nothing that comes is certain."""
        count = len(self.open) + (self._kept is not None)
        if count:
            self._ledger.spans_lost[reason] += count
        self.take_open()
        self.in_step = self.hidden = self._doubtful = False
        self._kept = self._unasked = None
        self.verdict = None

    def take_open(self) -> list[Exchange]:
        """All that are open: they are no more."""
        taken, self.open[:] = list(self.open), ()
        for exchange in taken:
            exchange.running.now -= 1
        return taken

    def lose_unknown(self) -> None:
        """There will be no answer: what does not even begin like a request is not known to have been one."""
        if self.open and self.open[-1].response is None and not self.open[-1].request.method:
            self.open.pop().running.now -= 1
            self._ledger.spans_lost[Lost.UNPARSABLE] += 1

    def in_body(self, by_server: bool) -> bool:
        """The head of the newest message of a side was seen, its end not."""
        if not self.open:
            return False
        if by_server:
            return self.open[0].response is not None and self.open[0].response_last_ns == UNSET
        return self.open[-1].request.end < 0

    def count_headless(self, reason: Lost) -> None:
        """It began like a request, and so counts as one."""
        self._ledger.requests_begun += 1
        self._ledger.spans_lost[reason] += 1

    def miss(self, by_server: bool, server: Stream, now_ns: int, *, spoken: bool) -> None:
        """Bytes are lost, as it shows now. `spoken`: the server has said something behind the newest request that was
        seen, or before any was."""
        if by_server and len(self.open) < 2:
            return  # the only one that is open is lost with its answer
        if len(self.open) > 2:
            self._turns = 0  # so many answers in one hole, and no request beside them, are not to be believed
        self._missed_ns = now_ns
        self._denied = False
        spoken = spoken or by_server or (self._unasked is not None and not self.open)
        self._owing = UNSET if spoken else server.position

    def distrust(self, now_ns: int) -> None:
        """The client has sent what is not understood: to its server that may be any number of requests."""
        self._missed_ns = now_ns
        self._owing = UNSET
        self._turns = 0

    def misread(self, now_ns: int) -> None:
        """What the client has sent is not understood, and nothing can be told of it."""
        if not self.open:
            self.count_headless(Lost.UNPARSABLE)
        self.distrust(now_ns)

    def wonder(self, by_server: bool, now_ns: int) -> None:
        """A turn began with something unknown. Of a client of whom nothing is known yet, it may be the end of something
        that began before it was met."""
        if not by_server and (self.in_step or self._missed_ns != UNSET or self._turns):
            self.distrust(now_ns)
            self._wondering = True
            self._wondered_ns = now_ns
        self.in_step = False

    def believes(self, begin_ns: int, server: Stream) -> bool:
        """Whether the next answer is that of the request which begins now, with nothing open."""
        if self.in_step or self._missed_ns == UNSET:
            return True
        if server.position == self._owing:
            # Those before it are not answered, or their answers were lost, which will show.
            if self._denied:
                self._turns = 0
            self._denied = True
            return False
        silent_ns = begin_ns - max(server.time_at(server.position), self._missed_ns)
        return self._turns >= TURNS or silent_ns >= SILENCE_NS

    def go_on(self, offset: int, data: bytes) -> None:
        """The server goes on at `offset` with `data`. Where that is what it owed, a request had come before its answer:
        the client does not take turns, or a record is late. Where it answers the unknown in something else than HTTP,
        that was another protocol (SOCKS, say), and no request."""
        if self._wondering:
            self._wondering = False
            if self._missed_ns == self._wondered_ns and detect.looks_like_response(data) is detect.Verdict.NO:
                self._missed_ns = UNSET
        if offset == self._owing and self._denied:
            self._turns = 0

    def _request(self, message: Message, stream: Stream, server: Stream) -> None:
        waiting = self.open
        begin, end = message.begin, message.end
        last_ns = stream.time_at(end - 1) if end >= 0 else UNSET
        if waiting and waiting[-1].request is message:
            waiting[-1].request_last_ns = last_ns
            return
        ledger = self._ledger
        ledger.requests_begun += 1
        first_ns = stream.time_at(begin)
        pid, serving = stream.pid, self.serving
        running = ledger.begin_request(pid, serving, stream.waited_us_at(begin))
        waiting.append(Exchange(message, pid, first_ns, last_ns, serving=serving, running=running, offset=begin))
        if (self.hidden or not self.in_step) and server.time_at(server.position) > first_ns:
            # It was recorded late, and its answer passed over.
            self.verdict = Verdict.STALE
            return
        if len(waiting) == 1:
            if self.in_step:
                self._turns += 1
        else:
            if len(waiting) > self.max_open:
                self.verdict = Verdict.TOO_MANY
            # Out of step, the next response may answer a request that was never seen; or a response was lost, and the
            # hole where it was will show.
            self._doubtful = self._doubtful or not self.in_step

    def _response(self, message: Message, stream: Stream) -> None:
        waiting = self.open
        if message is self._unasked:
            return
        if not waiting:
            # It answers nobody (RFC 9110 section 15.5.9), or one that was not seen.
            if self._kept is not None:
                self._kept = None
                self._ledger.spans_lost[Lost.JOINED_MIDWAY] += 1
            self.in_step = False
            self._unasked = message
            return
        if self._doubtful:
            self.verdict = Verdict.OUT_OF_STEP
            return
        exchange = waiting[0]
        if exchange.response is None:
            self._answer(exchange, message, stream.time_at(message.begin))
        elif exchange.response is not message:
            self.verdict = Verdict.STALE
        if self.verdict is not None:
            return
        end = message.end
        if end >= 0:
            exchange.response_last_ns = stream.time_at(end - 1 if end > message.begin else message.begin)
            if message.incomplete is Incomplete.CLOSED:
                exchange.error = "connection_closed"
        if message.upgrade and exchange.request_last_ns == UNSET:
            exchange.request_last_ns = exchange.response_first_ns

    def _answer(self, exchange: Exchange, message: Message, first_ns: int) -> None:
        if first_ns < exchange.request_first_ns:
            if self.hidden or not self.in_step:
                self.verdict = Verdict.STALE
                return
            # A send that was stamped when its call had returned: it cannot have begun later than its answer.
            exchange.request_first_ns = first_ns
        exchange.response = message
        exchange.response_first_ns = first_ns
        if len(self.open) > 1:
            self.pipelines = True


def cut_off(
    exchanges: Sequence[Exchange], but: Exchange | None, *, error: str, whole: bool, connection: Connection
) -> None:
    """The connection is over, with these exchanges or within them; `but` does not mind how. `whole`: the server had
    said that it sends no more, and all of that was seen."""
    now_ns = connection.touched_ns
    for exchange in exchanges:
        response = exchange.response
        if exchange is not but and (error or not whole or response is None or response.end < 0):
            exchange.error = error or "connection_closed"
        if exchange.request_last_ns == UNSET:
            exchange.request_last_ns = now_ns
        if exchange.response_last_ns == UNSET:
            exchange.response_last_ns = now_ns if response is not None else given_up_ns(exchange, connection)


def given_up_ns(exchange: Exchange, connection: Connection) -> int:
    """When an exchange ended that had no answer: with the connection, as this side saw it. A client that sends no more
    but goes on waiting (shutdown(2)) looks like one that has closed."""
    closing_ns = connection.closing_ns
    return closing_ns if closing_ns >= exchange.request_first_ns else connection.touched_ns
