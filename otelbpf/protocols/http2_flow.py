"""Frames of an HTTP/2 conversation to messages, each side in one step at a time:

    preface ──► opening ──► frames ◄──► header, payload    the client; the server has no preface
    any ──► seek ──► frames                                the framing was lost, or its beginning was never seen
    any ──► over                                           closed, or given up

The meaning of a header block follows from its side and its stream: the client's first one is the request, the server's
first one that is final the response, the second one of either side its trailers (RFC 9113 section 8.1).
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Message, ProtocolError, Side
from otelbpf.protocols.hpack_decode import Decoder
from otelbpf.protocols.http2_half import Frame, Half
from otelbpf.protocols.http2_seek import begins_with_frames
from otelbpf.protocols.http2_streams import Streams

MAX_SOUGHT: Final = 1000
"""Pieces without a frame boundary after which it is looked for no more."""


class Flow(Streams):
    """Cuts each side's bytes into frames; what they mean is `Streams`'s."""

    __slots__ = ()

    def __init__(
        self, begin: tuple[int, int], wanted: frozenset[str], *, head_limit: int, fresh: bool, max_streams: int
    ) -> None:
        halves = []
        for side, first in ((Side.CLIENT, Flow._preface), (Side.SERVER, Flow._opening)):
            decoder = Decoder(wanted, limit=head_limit, complete=fresh)
            max_frame = h2.DEFAULT_MAX_FRAME if fresh else h2.LARGEST_FRAME
            half = Half(side, begin[side], decoder, max_frame, first if fresh else Flow._seek)
            half.losses = 0 if fresh else 1
            halves.append(half)
        super().__init__(halves[0], halves[1], max_streams=max_streams, head_limit=head_limit)

    # -- where frames begin ----------------------------------------------------------------------------------------

    def _preface(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """RFC 9113 section 3.4."""
        pending = half.pending
        taken = data[at : at + len(h2.PREFACE) - len(pending)]
        pending += taken
        if not h2.PREFACE.startswith(pending):
            raise ProtocolError("not the preface of HTTP/2")
        if len(pending) == len(h2.PREFACE):
            pending.clear()
            half.step = Flow._opening
        return at + len(taken)

    def _opening(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """The first frame of either side is SETTINGS (section 3.4)."""
        pending = half.pending
        kind = (pending + data[at : at + h2.HEADER_SIZE])[3:4]
        if kind and kind[0] != h2.SETTINGS:
            raise ProtocolError("the first frame is not SETTINGS")
        return self._header(half, data, at, out)

    def _seek(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """The next boundary is where a piece begins with frames and nothing else is likely."""
        if at == 0 and begins_with_frames(data):
            half.step = Flow._frames
            half.sought = 0
            return 0
        half.sought += 1
        if half.sought > MAX_SOUGHT:
            raise ProtocolError("no frame begins where one could be seen to")
        return len(data)

    def _over(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        raise ProtocolError("bytes of a side that is over")

    def _lose_framing(self, half: Half) -> None:
        half.step = Flow._seek
        half.losses += 1
        half.frame = half.block = None
        half.pending.clear()
        half.decoder.forget()
        # What was lost may have been settings.
        other = self._client if half is self._server else self._server
        other.max_frame = h2.LARGEST_FRAME

    # -- frames ----------------------------------------------------------------------------------------------------

    def _frames(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """At a boundary: whole frames are taken from where they lie."""
        size = len(data)
        position = half.position
        while size - at >= h2.HEADER_SIZE:
            high, low, kind, flags, stream = h2.header(data, at)
            length = high << 16 | low
            stream &= h2.LARGEST_STREAM
            payload = at + h2.HEADER_SIZE
            end = payload + length
            if end > size:
                self._begin(half, kind, flags, stream, length, position + at, out)
                return payload
            self._check(half, kind, flags, stream, length)
            half.begin = position + at
            half.end = position + end
            if kind == h2.DATA:
                self._data(half, data, payload, end, flags, stream, out)
            elif kind in h2.KEPT:
                self._take(half, kind, flags, stream, data[payload:end], out)
            at = end
        if at < size:
            half.step = Flow._header
        return at

    def _header(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """In a frame header that does not come in one piece."""
        pending = half.pending
        taken = data[at : at + h2.HEADER_SIZE - len(pending)]
        pending += taken
        at += len(taken)
        if len(pending) == h2.HEADER_SIZE:
            high, low, kind, flags, stream = h2.header(pending)
            pending.clear()
            length = high << 16 | low
            stream &= h2.LARGEST_STREAM
            self._begin(half, kind, flags, stream, length, half.position + at - h2.HEADER_SIZE, out)
            if not length:
                self._finish(half, out)
        return at

    def _check(self, half: Half, kind: int, flags: int, stream: int, length: int) -> None:
        if length > half.max_frame:
            raise ProtocolError(f"a frame of {length} bytes")
        block = half.block
        if block is not None:
            if kind != h2.CONTINUATION or stream != block.stream:
                raise ProtocolError("a header block is interrupted")
        elif kind == h2.CONTINUATION:
            raise ProtocolError("a CONTINUATION continues nothing")
        if not stream if kind <= h2.HEADERS else not h2.is_frame(kind, flags, stream, length):
            raise ProtocolError(f"no frame of type {kind} has length {length} on stream {stream}")

    def _begin(
        self, half: Half, kind: int, flags: int, stream: int, length: int, begin: int, out: list[Message]
    ) -> None:
        """A frame begins that does not come in one piece."""
        self._check(half, kind, flags, stream, length)
        half.begin = begin
        half.end = begin + h2.HEADER_SIZE + length
        half.frame = Frame(kind, flags, stream, length)
        half.step = Flow._payload
        if kind == h2.DATA:
            self._begin_content(half, half.frame, out)

    def _payload(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """In the payload of such a frame."""
        frame = half.frame
        assert frame is not None
        end = min(at + frame.left, len(data))
        if frame.kind == h2.DATA:
            self._content(half, frame, data, at, end)
        elif frame.kind in h2.KEPT and len(frame.payload) == frame.length - frame.left:
            frame.payload += data[at : min(end, at + self._head_limit - len(frame.payload))]
        frame.left -= end - at
        if not frame.left:
            self._finish(half, out)
        return end

    def _miss(self, half: Half, count: int, out: list[Message]) -> None:
        """Bytes of the payload were not seen."""
        frame = half.frame
        assert frame is not None
        if frame.kind == h2.DATA:
            self._miss_content(half, frame, count)
        frame.left -= count
        if not frame.left:
            self._finish(half, out)

    def _finish(self, half: Half, out: list[Message]) -> None:
        """The frame is over, as far as it was seen."""
        frame = half.frame
        assert frame is not None
        half.frame = None
        half.step = Flow._frames
        if frame.kind == h2.DATA:
            self._end_content(half, frame, out)
        elif frame.kind in h2.KEPT:
            self._take(half, frame.kind, frame.flags, frame.stream, bytes(frame.payload), out)
