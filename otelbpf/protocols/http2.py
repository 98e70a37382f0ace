"""HTTP/2 as seen from beside the road: both sides' bytes in, messages out, however cut and whatever is missing.

What is missing, and what comes of it:

- Bytes within one frame: the framing survives. Content is counted. A header block of which a part is missing says what
  is whole before it (HEAD_BEYOND_LIMIT), and what later blocks refer to is unknown (see `hpack_table`).
- Bytes that frame: the side seeks the next boundary (see `http2_seek`). What its open messages had in between is not
  known: their sizes are not (BODY_SIZE_UNKNOWN), and a request whose end is missing ends with its response. A response
  whose head is missing is announced as far as it is known, the status among what is unknown.
- Everything before a listener joined: the same, on both sides.

See `http2_streams` for what the frames mean.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Gap, Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1_head import WANTED
from otelbpf.protocols.http2_flow import Flow
from otelbpf.protocols.http2_half import Half

HEAD_LIMIT: Final = 65536
"""Bytes of a header block that are kept until it is complete, and of its wanted fields."""
MAX_STREAMS: Final = 10_000
"""Streams that may be open; servers allow a few hundred."""


class Http2(Flow):
    """One connection's conversation; see `base.Parser`. Its messages are `base.StreamMessage`s."""

    __slots__ = ("_halves",)

    def __init__(
        self,
        begin: tuple[int, int] = (0, 0),
        *,
        wanted: frozenset[str] = WANTED,
        head_limit: int = HEAD_LIMIT,
        fresh: bool = True,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        """`begin`: stream offsets (client's, server's) of the first bytes to come. `fresh`: they are the first ones of
        HTTP/2 on this connection, the client's preface and the server's settings; otherwise the parser joins midway.
        `wanted`: lower-case names of the headers to keep. `max_streams`: how many may be open."""
        super().__init__(begin, wanted, head_limit=head_limit, fresh=fresh, max_streams=max_streams)
        self._halves = (self._client, self._server)

    def __repr__(self) -> str:
        return f"<Http2 {self._client!r} {self._server!r} open={len(self._asked)}>"

    def seeks(self, side: Side) -> bool:
        """Its framing is lost: what comes is passed over until frames are found."""
        return self._halves[side].step is Flow._seek

    def next_frame(self, side: Side) -> int:
        """The stream offset where the next frame of `side` begins; -1 where that is not known, or has gone by."""
        half = self._halves[side]
        if half.step is Flow._payload:
            return half.end
        return half.position if half.step is Flow._frames else -1

    def needed_from(self, side: Side) -> int:
        """See `base.Parser`. The time of a message's begin is to be taken when it is announced; after that, only that
        of its last byte will be asked for, which is of the newest call."""
        half = self._halves[side]
        if half.block is not None:
            return half.block.begin
        if half.pending:
            return half.position - len(half.pending)
        if half.frame is not None and half.frame.kind in h2.KEPT:
            return half.begin
        return max(half.position - 1, 0) if half.open else half.position

    def receive(self, side: Side, data: bytes) -> list[Message]:
        """See `base.Parser`. `data` is what one system call wrote or read: where it begins helps after a gap."""
        half = self._halves[side]
        self._call += 1
        out: list[Message] = []
        at, size = 0, len(data)
        try:
            while at < size:
                at = half.step(self, half, data, at, out)
        except ProtocolError as error:
            self._give_up(error, out)
            raise
        half.position += size
        return out

    def lose(self, side: Side, gap: Gap) -> list[Message]:
        """See `base.Parser`."""
        half = self._halves[side]
        self._call += 1
        out: list[Message] = []
        try:
            self._lose(half, gap.size, out)
        except ProtocolError as error:
            self._give_up(error, out)
            raise
        half.position += gap.size
        return out

    def close(self, side: Side) -> list[Message]:
        """See `base.Parser`."""
        half = self._halves[side]
        self._call += 1
        out: list[Message] = []
        if half.frame is not None and half.frame.kind == h2.DATA:
            self._end_content(half, half.frame, out)
        for stream, opened in list(half.open.items()):
            opened.message.incomplete = Incomplete.CLOSED
            self._end(half, stream, opened, half.position, out)
        self._quit(half)
        return out

    def _lose(self, half: Half, size: int, out: list[Message]) -> None:
        if half.step is Flow._over:
            raise ProtocolError("bytes of a side that is over were lost")
        if half.frame is not None:
            within = min(size, half.frame.left)
            self._miss(half, within, out)
            size -= within
        if size and half.step is not Flow._seek:
            self._lose_framing(half)

    def _give_up(self, error: ProtocolError, out: list[Message]) -> None:
        error.messages = tuple(out)
        for half in self._halves:
            self._quit(half)

    def _quit(self, half: Half) -> None:
        half.open.clear()
        half.pending.clear()
        half.frame = half.block = None
        half.step = Flow._over
