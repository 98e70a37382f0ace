"""One connection's conversation: its protocol, its messages in pairs, and what to do when bytes are missing.

    listening ── a request begins ──► speaking ── 101, CONNECT ──► over (opaque)
        ▲                                │
        └── a hole took the framing ─────┘        listening ── three strikes ──► over (unknown)

A connection that speaks HTTP/2 from its start, or changes to it (101 with `Upgrade: h2c`), or shows its frames when it
is met midway, goes to an heir: see `streams`.

Listening (see `listening`) is where every connection starts, and where it returns after a loss. A conversation that may
be out of step (see `pairing`) and pipelines is left alone: its exchanges are lost by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.connections.piece import Piece
from otelbpf.connections.stream import Stream
from otelbpf.exchanges.base import Dialogue, Phase
from otelbpf.exchanges.exchange import UNSET, Exchange
from otelbpf.exchanges.listening import NOTHING, Heard, Listener
from otelbpf.exchanges.pairing import Pairing, Verdict, cut_off
from otelbpf.exchanges.signs import is_h2c, upgraded
from otelbpf.exchanges.streams import Streams
from otelbpf.protocols.base import Gap, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from otelbpf.telemetry.ledger import Ledger, Lost

MAX_EARLY: Final = 16
"""Pieces of the server's side that may wait for the request they answer."""

# In the way of every message: Python 3.11 takes ten times as long for a member of an enum as for a name.
_SPEAKING: Final = Phase.SPEAKING
_ANEW: Final = {Verdict.MALFORMED: Lost.UNPARSABLE, Verdict.STALE: Lost.JOINED_MIDWAY, Verdict.TOO_MANY: Lost.EVICTED}
"""Verdicts after which it is listened to anew, and as what then is lost that is open."""
_SIDES: Final = (Side.CLIENT, Side.SERVER)
"""By whether it is the server's."""


class Session(Dialogue):
    """Turns one connection's pieces into exchanges."""

    __slots__ = (
        "_connection",
        "_early",
        "_ended",
        "_head_limit",
        "_ledger",
        "_listener",
        "_pairing",
        "_parser",
        "_wanted",
    )

    def __init__(
        self, connection: Connection, *, ledger: Ledger, head_limit: int, max_open: int, wanted: frozenset[str]
    ) -> None:
        super().__init__(Phase.LISTENING)
        self._connection = connection
        self._ledger = ledger
        self._head_limit = head_limit
        self._wanted = wanted
        self._pairing = Pairing(ledger=ledger, max_open=max_open, flags=connection.flags)
        self._listener = Listener(self._pairing, head_limit=head_limit)
        self._parser: Http1 | None = None
        self._early: tuple[Piece, ...] = ()
        self._ended: tuple[Side, ...] = ()

    # -- what the pipeline calls -----------------------------------------------------------------------------------

    def take(self, sent: bool, offset: int, data: bytes) -> list[Exchange]:
        """The next bytes of one direction, as one system call had them; exchanges that are over now."""
        pairing = self._pairing
        parser = self._parser
        if parser is None or self._early or (sent is pairing.serving and not pairing.open):
            return self.take_piece(Piece(sent, offset, data))
        # The common case, as short as can be: what `_speak` does.
        server = sent is pairing.serving
        side = _SIDES[server]
        try:
            messages = parser.receive(side, data)
        except ProtocolError as error:
            return self._after_error(server, error, None)
        connection = self._connection
        stream = connection.sent if sent else connection.received
        done: list[Exchange] = []
        if messages:
            done = self._finish(messages)
            last = messages[-1]
            if last.end == stream.position and last.side is side:
                stream.forget(stream.position)
                return done
            if self.heir is not None:
                return done + self._pass_on(Piece(sent, offset, data), last)
        stream.forget(parser.needed_from(side))
        return done

    def take_piece(self, piece: Piece) -> list[Exchange]:
        """The next piece, perhaps a gap.

        A send is recorded when its system call returns, and by then another thread may have read the answer: bytes of
        the server that no request precedes wait for it.
        """
        pairing = self._pairing
        if piece.sent is pairing.serving:
            certain = pairing.in_step and not pairing.hidden and self.phase is not Phase.OVER
            if certain and not pairing.open and len(self._early) < MAX_EARLY:
                self._early += (piece,)
                self.attention = True
                return []
            return (self.release() if self._early else []) + self._take(piece)
        done = self._take(piece)
        if self._early and pairing.open:
            done += self.release()
        return done

    @property
    def waits(self) -> bool:
        """Bytes of the server wait for their request, or a pair for the end of its turn."""
        return bool(self._early) or self._pairing.waits

    @property
    def overlaps(self) -> bool:
        """Several requests are open: heads lie behind bodies, so the source should copy more; or bodies are read."""
        return len(self._pairing.open) > 1 or (self._parser is not None and self._parser.reads_bodies)

    def end(self, sent: bool) -> list[Exchange]:
        """One direction has ended and all its bytes were taken."""
        parser = self._parser
        server = sent is self._pairing.serving
        side = _SIDES[server]
        if parser is None or side in self._ended:
            return []
        self._ended += (side,)
        try:
            return self._finish(parser.close(side))
        except ProtocolError as error:
            return self._after_error(server, error, None)

    def close(self, error: str) -> list[Exchange]:
        """The connection is over; whatever is open ends here, with `error` where it did not end by itself."""
        done = self.release()
        pairing = self._pairing
        serving = pairing.serving
        whole = self._stream(serving).ended
        # The response was complete while its request was still being sent: how the connection ends is not its matter.
        answered = next((exchange for exchange in pairing.open if exchange.response_last_ns != UNSET), None)
        closing = [*self.end(serving), *self.end(not serving), *pairing.settle()]
        if (pairing.hidden or not pairing.in_step) and pairing.open and pairing.open[0].response is None:
            # Out of step, or adrift, the answer may have been among what was passed over.
            self._pairing.lose(Lost.JOINED_MIDWAY)
        pairing.lose_unknown()
        closing += pairing.take_open()
        cut_off(closing, answered, error=error, whole=whole, connection=self._connection)
        self._parser = None
        self.phase = Phase.OVER
        return done + closing

    def release(self) -> list[Exchange]:
        """What waited has waited long enough: no request will come before its answer any more, nor a second answer."""
        early, self._early = self._early, ()
        done = self._pairing.settle()
        for piece in early:
            done += self._take(piece)
        return done

    def abandon(self, reason: Lost) -> None:
        """Count everything still open as lost, and look no further."""
        self._pairing.lose(reason)
        self._parser = None
        self._early = ()
        self.phase = Phase.OVER
        self.attention = True

    def encrypted(self, piece: Piece | None = None) -> list[Exchange]:
        """It is TLS, as this piece shows, or as somebody else knows."""
        self.opening = piece
        return self._over("tls")

    # -- listening -------------------------------------------------------------------------------------------------

    def _take(self, piece: Piece) -> list[Exchange]:
        if self.phase is _SPEAKING:
            return self._speak(piece)
        if self.heir is not None:
            return self.heir.take_piece(piece)
        if piece.gap is not None and piece.gap.encrypted and self.phase is Phase.LISTENING:
            return self.encrypted(Piece(piece.sent, piece.offset, b""))
        done = self._listen(piece) if self.phase is Phase.LISTENING else []
        self._forget_behind(piece)
        return done

    def _forget_behind(self, piece: Piece) -> None:
        """While nobody speaks, only what waits to become a first line will be asked for its time."""
        if self.phase is not _SPEAKING and self.heir is None and not self._listener.waits:
            size = len(piece.data) if piece.gap is None else piece.gap.size
            self._stream(piece.sent).forget(piece.offset + size - self._listener.held(piece.sent))

    def _listen(self, piece: Piece) -> list[Exchange]:
        if piece.gap is not None:
            self._pairing.in_step = False
            if not piece.gap.deliberate:
                self._miss(piece.sent is self._pairing.serving)
        elif piece.sent is self._pairing.serving:
            self._pairing.go_on(piece.offset, piece.data)
        found = self._listener.hear(piece)
        if found is NOTHING:
            return []
        if found.head_lost:
            self._pairing.count_headless(Lost.GAP_IN_HEAD)
        match found.heard:
            case Heard.REQUEST | Heard.REFUSED:
                return self._begin(*found.pieces)
            case Heard.PREFACE:
                first = found.pieces[0]
                # A source knows it by itself where one call has it all.
                return self._change([first, *self._early], told=first.offset == piece.offset)
            case Heard.FRAMES:
                return self._change(found.pieces, fresh=False, asks=found.asked_by_sender)
            case Heard.TLS:
                return self.encrypted(piece)
            case Heard.UNKNOWN:
                return self._over("unknown_protocol")
            case Heard.STRANGE:
                self._pairing.wonder(piece.sent is self._pairing.serving, self._connection.touched_ns)
                self._early = ()
        return []

    def _begin(self, piece: Piece, refusal: Piece | None = None) -> list[Exchange]:
        pairing, sent = self._pairing, piece.sent
        if refusal is not None:
            pairing.in_step = True  # nothing went before
            begins = self._stream(sent).position, refusal.offset
            parser = self._parser = Http1(begins, head_limit=self._head_limit, wanted=self._wanted)
            self.phase = _SPEAKING
            return self._finish(parser.take_malformed(piece.offset, piece.data)) + self._speak(refusal)
        pairing.serving = not sent
        other = self._stream(not sent)
        if not pairing.believes(self._stream(sent).time_at(piece.offset), other):
            self._pairing.count_headless(Lost.JOINED_MIDWAY)
            return []
        if not pairing.in_step:
            # Out of step, what the server said before this request is not known to be its answer.
            self._early = ()
        begin = self._early[0].offset if self._early else other.position
        self._parser = Http1((piece.offset, begin), head_limit=self._head_limit, wanted=self._wanted)
        self.phase = _SPEAKING
        return self._speak(piece)

    def _change(
        self,
        pieces: Sequence[Piece],
        *,
        fresh: bool = True,
        asks: bool | None = None,
        told: bool = False,
        upgraded: Exchange | None = None,
        answer_end: int = -1,
    ) -> list[Exchange]:
        """The connection speaks HTTP/2, from `pieces` on, or from behind the answer that ends at `answer_end`: an heir
        goes on with it."""
        pairing = self._pairing
        if upgraded is None and fresh:
            asks = pieces[0].sent
        if asks is not None:
            pairing.serving = not asks
        client, server = (
            next((piece.offset for piece in pieces if piece.sent is sent), self._stream(sent).position)
            for sent in (not pairing.serving, pairing.serving)
        )
        self.heir = Streams(
            self._connection,
            ledger=self._ledger,
            head_limit=self._head_limit,
            max_open=pairing.max_open,
            wanted=self._wanted,
            serving=pairing.serving,
            begin=(client, answer_end if upgraded is not None else server),
            fresh=fresh,
            told=told,
            upgraded=upgraded,
        )
        self._ledger.connections["http2"] += 1
        self._parser = None
        self._early = ()
        self.phase = Phase.OVER
        self.attention = True
        done: list[Exchange] = []
        for piece in pieces:
            done += self.heir.take_piece(piece)
        return done

    def _over(self, why: str) -> list[Exchange]:
        self._ledger.connections[why] += 1
        self.abandon(Lost.JOINED_MIDWAY)
        return []

    # -- speaking --------------------------------------------------------------------------------------------------

    def _speak(self, piece: Piece) -> list[Exchange]:
        parser = self._parser
        assert parser is not None
        server = piece.sent is self._pairing.serving
        side = _SIDES[server]
        gap = piece.gap
        # The parser wants to know of earlier bytes: a message has begun whose end is not known.
        begun = not server and parser.needed_from(side) < piece.offset
        try:
            messages = parser.receive(side, piece.data) if gap is None else parser.lose(side, gap)
        except ProtocolError as error:
            if gap is not None and begun and not self._pairing.in_body(server):
                self._pairing.count_headless(Lost.GAP_IN_HEAD)
            return self._after_error(server, error, gap)
        done = self._finish(messages)
        if self.heir is not None:
            return done + self._pass_on(piece, messages[-1])
        self._stream(piece.sent).forget(parser.needed_from(side))
        return done

    def _finish(self, messages: Sequence[Message]) -> list[Exchange]:
        pairing = self._pairing
        connection = self._connection
        parser = self._parser
        if parser is not None:
            if parser.inferred:
                pairing.hidden = True
            if parser.reads_bodies:
                self.attention = True
        if pairing.serving:
            done = pairing.pair(messages, connection.received, connection.sent)
        else:
            done = pairing.pair(messages, connection.sent, connection.received)
        if len(pairing.open) > 1 or pairing.waits:
            self.attention = True
        if pairing.verdict is not None:
            answer = done[-1].response if pairing.verdict is Verdict.OPAQUE else None
            if answer is not None and is_h2c(answer):
                # What comes behind the 101, the caller passes on.
                self._change((), upgraded=upgraded(done.pop()), answer_end=answer.end)
            else:
                self._stop(pairing.verdict)
        return done

    def _pass_on(self, piece: Piece, last: Message) -> list[Exchange]:
        """What stands behind the 101 in the same call is frames."""
        assert self.heir is not None
        rest = piece.data[last.end - piece.offset :]
        return self.heir.take_piece(Piece(piece.sent, last.end, rest)) if rest else []

    def _stop(self, verdict: Verdict) -> None:
        if verdict in _ANEW:
            self._listen_anew(_ANEW[verdict])
            return
        self._ledger.connections[verdict.value] += 1
        # What was open behind an upgrade never was HTTP.
        self.abandon(Lost.UNPARSABLE if verdict is Verdict.OPAQUE else Lost.JOINED_MIDWAY)

    # -- losses ----------------------------------------------------------------------------------------------------

    def _after_error(self, server: bool, error: ProtocolError, gap: Gap | None) -> list[Exchange]:
        done = self._finish(error.messages)
        if self.phase is not _SPEAKING:
            return done
        if gap is not None:
            self._miss(server)
            self._listen_anew(Lost.GAP_IN_BODY if self._pairing.in_body(server) else Lost.GAP_IN_HEAD)
            return done
        if not server:
            self._pairing.misread(self._connection.touched_ns)
        self._listen_anew(Lost.UNPARSABLE)
        if self._listener.strike():
            self._over("unknown_protocol")
        return done

    def _miss(self, server: bool) -> None:
        pairing = self._pairing
        spoken = bool(self._early) or self._listener.last is pairing.serving
        pairing.miss(server, self._stream(pairing.serving), self._connection.touched_ns, spoken=spoken)

    def _listen_anew(self, reason: Lost) -> None:
        """Lose what is open; a conversation that pipelines will never be known to be in step again."""
        if self._parser is not None and self._parser.malformed:
            self._pairing.distrust(self._connection.touched_ns)
        self._pairing.lose(reason)
        self._ledger.connections["resynced"] += 1
        self._parser = None
        self._ended = ()
        self.phase = Phase.LISTENING
        if self._pairing.pipelines:
            self._over("out_of_step")

    def _stream(self, sent: bool) -> Stream:
        return self._connection.sent if sent else self._connection.received
