"""Frames of an HTTP/2 conversation to messages, each side in one step at a time:

    preface ──► opening ──► frames ◄──► header, payload    the client; the server has no preface
    any ──► seek ──► frames                                the framing was lost, or its beginning was never seen
    any ──► over                                           closed, or given up

What they mean is told in `http2_blocks` and `http2_streams`; content (DATA) is counted here.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Message, ProtocolError, Side
from otelbpf.protocols.hpack_decode import Decoder
from otelbpf.protocols.http2_blocks import Blocks
from otelbpf.protocols.http2_half import Frame, Half
from otelbpf.protocols.http2_seek import begins_with_frames
from otelbpf.protocols.http2_streams import BEYOND

MAX_SOUGHT: Final = 1000
"""Pieces without a frame boundary after which it is looked for no more."""
STREAMS_AHEAD: Final = 20_000
"""How much higher than any that was seen the number of a stream may be that is believed where frames are sought."""


class Flow(Blocks):
    """Cuts each side's bytes into frames; what they mean is `Blocks`'s."""

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
        newest = h2.LARGEST_STREAM
        if self._client.losses == 0:
            newest = self._client.last_stream + STREAMS_AHEAD
        if at == 0 and begins_with_frames(data, newest=newest):
            half.step = Flow._frames
            half.sought = 0
            half.losses += 1  # what was passed over since the loss is lost too
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
        if half is self._server:
            self._doubt(half)
        # What was lost may have been settings.
        other = self._client if half is self._server else self._server
        other.max_frame = h2.LARGEST_FRAME

    def _doubt(self, half: Half) -> None:
        """A response whose status is not known may be an interim one, and the final one may be in what was lost."""
        for opened in half.open.values():
            message = opened.message
            if not message.status and opened.body_size <= 0:
                message.head_end = message.begin
                message.headers = {}
                message.incomplete = BEYOND

    # -- frames ----------------------------------------------------------------------------------------------------

    def _frames(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """At a boundary: whole frames are taken from where they lie."""
        size = len(data)
        position = half.position
        while size - at >= h2.HEADER_SIZE:
            length, kind, flags, stream = h2.read_header(data, at)
            stream &= h2.LARGEST_STREAM
            payload = at + h2.HEADER_SIZE
            end = payload + length
            if end > size:
                self._begin(half, kind, flags, stream, length, position + at, out)
                return payload
            if kind > h2.HEADERS or not stream or length > half.max_frame or half.block is not None:
                self._check(half, kind, flags, stream, length)
                if kind not in h2.KEPT:
                    at = end
                    continue
            begin = half.begin = position + at
            half.end = position + end
            if kind == h2.DATA:
                self._data(half, data, payload, end, flags, stream, out)
            elif kind == h2.HEADERS and flags & h2.AROUND_BLOCK == h2.END_HEADERS:  # nearly all are
                head = half.decoder.decode(data[payload:end])
                self._block(half, stream, head, begin, bool(flags & h2.END_STREAM), out)
            else:
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
            length, kind, flags, stream = h2.read_header(bytes(pending), 0)
            pending.clear()
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

    # -- content ---------------------------------------------------------------------------------------------------

    def _data(self, half: Half, data: bytes, at: int, end: int, flags: int, stream: int, out: list[Message]) -> None:
        """A DATA frame that lies in one piece."""
        opened = half.open.get(stream) or self._headless(half, stream, out)
        if opened is None:
            return
        if flags & h2.PADDED:
            at, end = _unpadded(data, at, end)
        if opened.body_size >= 0:
            opened.body_size += end - at
        if opened.parts is not None:
            opened.parts.feed(data, at, end)
        if flags & h2.END_STREAM:
            self._end(half, stream, opened, half.end, out)

    def _begin_content(self, half: Half, frame: Frame, out: list[Message]) -> None:
        """A DATA frame begins that does not lie in one piece."""
        if frame.flags & h2.PADDED:
            if not frame.length:
                raise ProtocolError("a padded frame is empty")
            frame.padding = -1
        if frame.stream not in half.open:
            self._headless(half, frame.stream, out)

    def _content(self, half: Half, frame: Frame, data: bytes, at: int, end: int) -> None:
        """The next bytes of such a frame."""
        come = frame.length - frame.left
        if frame.padding < 0 and not come:
            frame.padding = data[at] + 1
            if frame.padding > frame.length:
                raise ProtocolError("more padding than payload")
        opened = half.open.get(frame.stream)
        if opened is not None and opened.parts is not None:
            first, behind = frame.content(come, come + end - at)
            opened.parts.feed(data, at + first - come, at + behind - come)

    def _miss_content(self, half: Half, frame: Frame, count: int) -> None:
        """So many of its bytes were not seen."""
        opened = half.open.get(frame.stream)
        if opened is not None and opened.parts is not None:
            come = frame.length - frame.left
            first, behind = frame.content(come, come + count)
            opened.parts.skip(behind - first)

    def _end_content(self, half: Half, frame: Frame, out: list[Message]) -> None:
        """It is over; what is left of it will not be seen."""
        opened = half.open.get(frame.stream)
        if opened is None:
            return
        if frame.padding < 0:
            opened.body_size = -1
            opened.parts = None
        elif opened.body_size >= 0:
            first, behind = frame.content(0, frame.length - frame.left)
            opened.body_size += behind - first
        if frame.flags & h2.END_STREAM and not frame.left:
            self._end(half, frame.stream, opened, half.end, out)


def _unpadded(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at == end or data[at] >= end - at:
        raise ProtocolError("more padding than payload")
    return at + 1, end - data[at]
