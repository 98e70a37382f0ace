"""Which response answers which request: on HTTP/1 the oldest that is open (RFC 9112 section 9.3.2).

A conversation is *in step* when that is certain: from the first byte of a fresh connection, and again once a request
and its response have met with nothing else open. Out of step, requests that overlap (pipelining) leave two explanations
for the next response; then nothing is guessed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from otelbpf.connections.stream import Stream
from otelbpf.exchanges.exchange import UNSET, Exchange
from otelbpf.protocols.base import Incomplete, Message, Side
from otelbpf.telemetry.ledger import Ledger

_CLIENT = Side.CLIENT


class Verdict(enum.Enum):
    """Why a conversation cannot go on as it was."""

    OPAQUE = "opaque"
    """It has changed to something else (101, CONNECT)."""
    OUT_OF_STEP = "out_of_step"
    """A response may answer either of two requests."""
    STALE = "stale"
    """A response came that cannot answer the oldest request: it answers one that was not seen, or not yet."""
    TOO_MANY = "too_many"
    """More requests are open than are kept."""


class Pairing:
    """The open exchanges of one connection, oldest first."""

    __slots__ = (
        "_doubtful",
        "_ledger",
        "_unasked",
        "hidden",
        "in_step",
        "max_open",
        "open",
        "pipelines",
        "serving",
        "verdict",
    )

    def __init__(self, *, ledger: Ledger, max_open: int, in_step: bool, serving: bool) -> None:
        self._ledger = ledger
        self.max_open = max_open
        self._doubtful = False
        self._unasked: Message | None = None  # a response that answers nobody
        # A list: it hardly ever has two, and an empty deque takes 760 bytes of every connection.
        self.open: list[Exchange] = []
        self.in_step = in_step
        self.hidden = False
        """A request may have been in what was not copied, or not kept: answers are looked at as if out of step."""
        self.pipelines = False
        """A response came while a later request was open too."""
        self.serving = serving
        """This end receives the requests."""
        self.verdict: Verdict | None = None

    def pair(self, messages: Sequence[Message], client: Stream, server: Stream) -> list[Exchange]:
        """Take messages of either side in the order they were seen; exchanges that are over. Stops at a verdict."""
        done: list[Exchange] = []
        waiting = self.open
        for message in messages:
            if message.side is _CLIENT:
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
                    done.append(waiting.pop(0))
                    if waiting:
                        self.pipelines = True
                    else:
                        self.in_step = True
                    if response.upgrade:
                        self.verdict = Verdict.OPAQUE
                        break
        return done

    def lose_step(self) -> None:
        """Bytes were lost: what is open has to be given up by the caller, and nothing is certain any more."""
        self.open.clear()
        self.in_step = self.hidden = self._doubtful = False
        self._unasked = None
        self.verdict = None

    def _request(self, message: Message, stream: Stream, server: Stream) -> None:
        waiting = self.open
        begin, end = message.begin, message.end
        last_ns = stream.time_at(end - 1) if end >= 0 else UNSET
        if waiting and waiting[-1].request is message:
            waiting[-1].request_last_ns = last_ns
            return
        self._ledger.requests_begun += 1
        first_ns = stream.time_at(begin)
        waiting.append(Exchange(message, stream.pid, first_ns, last_ns, serving=self.serving, offset=begin))
        if (self.hidden or not self.in_step) and server.time_at(server.position) > first_ns:
            # It was recorded late, and its answer passed over.
            self.verdict = Verdict.STALE
            return
        if len(waiting) > 1:
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
            self.in_step = False
            self._unasked = message
            return
        if self._doubtful:
            self.verdict = Verdict.OUT_OF_STEP
            return
        exchange = waiting[0]
        if exchange.response is None:
            first_ns = stream.time_at(message.begin)
            if first_ns < exchange.request_first_ns:
                if self.hidden or not self.in_step:
                    self.verdict = Verdict.STALE
                    return
                # A send that was stamped when its call had returned: it cannot have begun later than its answer.
                exchange.request_first_ns = first_ns
            exchange.response = message
            exchange.response_first_ns = first_ns
        elif exchange.response is not message:
            self.verdict = Verdict.STALE
            return
        end = message.end
        if end >= 0:
            exchange.response_last_ns = stream.time_at(end - 1 if end > message.begin else message.begin)
            if message.incomplete is Incomplete.CLOSED:
                exchange.error = "connection_closed"
        if message.upgrade and exchange.request_last_ns == UNSET:
            exchange.request_last_ns = exchange.response_first_ns
