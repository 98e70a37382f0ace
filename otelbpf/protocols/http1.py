"""HTTP/1.x as seen from beside the road: both sides' bytes in, messages out, however cut and whatever is missing.

Decisions where the road leaves a choice:

- An interim response (1xx but 101) is passed over; the response begins with the first byte of the final one.
- 204 and 304 and answers to HEAD have no body whatever their headers say (RFC 9112 section 6.3). 205 has none either
  (RFC 9110 section 15.3.6), but its framing headers are honoured: a chunked 205 sends its last chunk.
- A response that answers no request (408 to an idle connection, RFC 9110 section 15.5.9) is announced with the method
  "". If a request has begun whose first line is whole, the response is its answer: the request is announced early.
- A client that asked whether its body is wanted (Expect: 100-continue) and got a final answer may keep it (RFC 9110
  section 10.1.1): what then begins like a request is the next one.
- What is no request by the rules where one should begin, or no chunk where the request's body goes on, will be answered
  (see `http1_malformed`); what the client sends behind it is passed over.
- A message whose head the close cuts short is announced as far as its lines are whole, if its first line is.
- A gap within a body of known length, or within one chunk, is counted. Elsewhere it takes the framing: the parser gives
  up if the bytes were lost; if they were left out deliberately, the message is adrift and its end is inferred, unless
  another message of that side could be hidden in them.
- A message that is adrift ends with its last chunk, where the next message begins, when a request's response has
  ended, or with the close; `incomplete` says that its end is inferred, and its body has no size.
- What a head that was cut says about its body is not believed.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1_body import UntilClose
from otelbpf.protocols.http1_drift import Drift
from otelbpf.protocols.http1_flow import MAX_WAITING, Flow
from otelbpf.protocols.http1_half import Half
from otelbpf.protocols.http1_head import WANTED, shared_heads
from otelbpf.protocols.http1_malformed import read_malformed

# Python 3.11 takes ten times as long for a member of an enum as for a name.
_SERVER: Final = Side.SERVER
HEAD_LIMIT: Final = 65536
"""Bytes of a head, of a line before a chunk and of trailers that are kept until they are complete."""


class Http1(Flow):
    """One connection's conversation; see `base.Parser`."""

    __slots__ = ()

    def __init__(
        self, starts: tuple[int, int] = (0, 0), *, head_limit: int = HEAD_LIMIT, wanted: frozenset[str] = WANTED
    ) -> None:
        """`starts`: stream offsets (client's, server's) of the first bytes to come; a message begins at both.
        `wanted`: lower-case names of the headers to keep."""
        super().__init__(starts, shared_heads(wanted), head_limit)

    def __repr__(self) -> str:
        return f"<Http1 {self._client!r} {self._server!r} waiting={len(self._waiting)}>"

    @property
    def opaque(self) -> bool:
        """Both sides have left HTTP: their bytes are of no more use."""
        return self._client.step is Flow._opaque and self._server.step is Flow._opaque

    @property
    def inferred(self) -> bool:
        """The end of a request was inferred: the next one may have been in what was not copied."""
        return self._inferred

    @property
    def malformed(self) -> bool:
        """The newest request is: others may be in what was passed over behind it."""
        return self._malformed

    @property
    def reads_bodies(self) -> bool:
        """It is gRPC-Web: how calls end stands behind their messages."""
        return self._client.reads or self._server.reads

    def needed_from(self, side: Side) -> int:
        """See `base.Parser`. The time of a message's begin is to be taken when it is announced; after that, only that
        of its last byte will be asked for."""
        half = self._server if side is _SERVER else self._client
        if half.step is Flow._hold:
            return half.position - len(half.pending)
        if half.pending:
            return half.begin
        if half.drift is not None:
            return max(half.position - len(half.drift.candidate) - 1, 0)
        return half.position if half.message is None else max(half.position - 1, 0)

    def receive(self, side: Side, data: bytes) -> list[Message]:
        """See `base.Parser`. `data` is what one system call wrote or read: where it begins and ends helps after a
        gap."""
        half = self._server if side is _SERVER else self._client
        out: list[Message] = []
        at, size = 0, len(data)
        try:
            while at < size:
                at = half.step(self, half, data, at, out)
        except ProtocolError as error:
            pending = half.pending
            begin, known = (half.begin, bytes(pending)) if pending else (half.position + at, data[at:])
            if not self._take_malformed(half, begin, known, out):
                self._give_up(error, out)
                raise
        half.position += size
        return out

    def take_malformed(self, begin: int, known: bytes) -> list[Message]:
        """The client has begun with something that is no request, as its first bytes, `known`, show; it began at
        `begin` and came as far as where this parser was started."""
        out: list[Message] = []
        self._take_malformed(self._client, begin, known, out)
        return out

    def lose(self, side: Side, gap: Gap) -> list[Message]:
        """See `base.Parser`."""
        half = self._server if side is _SERVER else self._client
        out: list[Message] = []
        try:
            self._lose(half, gap, out)
        except ProtocolError as error:
            self._give_up(error, out)
            raise
        half.position += gap.size
        return out

    def close(self, side: Side) -> list[Message]:
        """See `base.Parser`."""
        half = self._server if side is _SERVER else self._client
        out: list[Message] = []
        if half.step is Flow._hold or half.step is Flow._opaque:
            return out  # what is held may still turn out to be requests
        try:
            self._close(half, out)
        except ProtocolError as error:
            self._give_up(error, out)
            raise
        half.pending = b""
        half.after = half.step = Flow._over
        return out

    def _take_malformed(self, half: Half, begin: int, known: bytes, out: list[Message]) -> bool:
        """See `Flow`."""
        if half.side is not Side.CLIENT or self._inferred:
            return False
        message = half.message
        if half.step is Flow._head and message is None and len(self._waiting) < MAX_WAITING:
            message = read_malformed(self._heads, begin, known)
            if message is None:
                return False
            self._ask(message.method)
            half.announce(message, out)
        elif half.step is Flow._body and message is not None:
            message.incomplete = Incomplete.MALFORMED
        else:
            return False
        self._malformed = True
        half.pending = b""
        half.body = None
        half.after = half.step = Flow._beyond
        if not self._waiting:  # it has been answered
            self._end(half, begin, -1, out)
        return True

    def _close(self, half: Half, out: list[Message]) -> None:
        body = half.body
        if half.step is Flow._head and half.pending:
            try:
                begun = self._begun(half, out)
            except ProtocolError:
                if not self._take_malformed(half, half.begin, bytes(half.pending), out):
                    raise
                begun = None
            if begun is not None:
                half.message, _ = begun
        message = half.message
        if message is None:
            return
        end = half.position
        if half.step is Flow._expected and not self._waiting:  # it was told not to send its body
            end -= len(half.pending)
        elif half.drift is None and not isinstance(body, UntilClose) and half.step is not Flow._beyond:
            message.incomplete = Incomplete.CLOSED
        self._end(half, end, body.size if body is not None else -1, out)

    def _lose(self, half: Half, gap: Gap, out: list[Message]) -> None:
        if half.step is Flow._opaque or not gap.size or (half.step is Flow._beyond and gap.deliberate):
            return
        if half.step is Flow._hold:
            half.overflow = True
            half.pending = b""
            return
        end = half.position + gap.size
        body = half.body
        self._decide(half)
        if body is not None:
            behind = body.lose(gap.size)
            if body.done:
                self._end(half, end - behind, body.size, out)
                if behind:
                    raise ProtocolError(f"{behind} bytes between messages were not seen")
            if behind >= 0:
                return
        if not gap.deliberate or half.step is Flow._over:
            raise ProtocolError(f"{gap.size} bytes that frame a message were lost")
        if half.step is Flow._head:
            self._cut_head(half, end, out)
        elif body is not None and half.message is not None:
            half.message.incomplete = Incomplete.BODY_SIZE_UNKNOWN
            self._set_adrift(half, chunked=True)
        if half.drift is not None:  # it has not switched
            self._drift_on(half, half.drift, gap, out)

    def _decide(self, half: Half) -> None:
        """What was not seen is the body that was asked about, unless it may be another request."""
        if half.step is Flow._expected:
            if not self._waiting:
                raise ProtocolError("the body, or another request, was not seen")
            half.step = Flow._body

    def _drift_on(self, half: Half, drift: Drift, gap: Gap, out: list[Message]) -> None:
        if drift.candidate:
            raise ProtocolError("what may be a first line was not seen whole")
        self._check_alone(half)
        if drift.ends_in(gap):
            self._settle(half, half.position + gap.size, out)

    def _give_up(self, error: ProtocolError, out: list[Message]) -> None:
        error.messages = tuple(out)
        for half in (self._client, self._server):
            half.step = half.after = Flow._over
            half.forget()
            half.pending = b""
