"""What the frames of an HTTP/2 conversation mean: messages that begin and end on streams.

Decisions where the road leaves a choice:

- An interim response (1xx) is passed over; the response begins with the HEADERS frame of the final one.
- A pushed exchange (RFC 9113 section 8.4) is two messages of the server's side on the promised stream: the request that
  the PUSH_PROMISE makes up, whole at once, with its method and the status 0; later the response.
- RST_STREAM ends what its stream still has open on either side; the message tells the code. What the other side had
  open ends where that side stands. A request that was whole and has no answer is announced once more with the code, its
  end as it was: that is how a call that is cancelled or refused ends.
- GOAWAY says which requests never were, and never will be, taken up (section 6.8): they end as if each had been reset
  with REFUSED_STREAM, which means the same.
- A frame on a stream that is over, or never was seen to begin, is passed over; its header block is decoded all the
  same.
- A response that comes before its request (each side's bytes may be recorded late) is announced with the method "".
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Incomplete, Message, ProtocolError, Side, StreamMessage
from otelbpf.protocols.http2_grpc import Parts
from otelbpf.protocols.http2_half import Block, Frame, Half, Open
from otelbpf.protocols.http2_head import Head, read_head

REFUSED_STREAM: Final = 7
"""RFC 9113 section 7."""

_CLIENT: Final = Side.CLIENT
_SERVER: Final = Side.SERVER
_CLOSED: Final = Incomplete.CLOSED
_NONE: Final = Incomplete.NONE
_BEYOND: Final = Incomplete.HEAD_BEYOND_LIMIT
_UNKNOWN_SIZE: Final = Incomplete.BODY_SIZE_UNKNOWN
_NUMBER: Final = 4
_PROMISED: Final = 4
_PRIORITY: Final = 5
_SETTING: Final = 6
_UNSEEN: Final = read_head({}, unnamed=True, beyond=True)
_number: Final = struct.Struct(">L").unpack_from
_setting: Final = struct.Struct(">HL").iter_unpack


class Streams:
    """Takes whole frames; where they begin and end is `Flow`'s."""

    __slots__ = ("_asked", "_call", "_client", "_early", "_head_limit", "_max_streams", "_server", "evicted")

    def __init__(self, client: Half, server: Half, *, max_streams: int, head_limit: int) -> None:
        self._client = client
        self._server = server
        self._max_streams = max_streams
        self._head_limit = head_limit
        self._call = 0
        self._asked: dict[int, Open] = {}  # requests whose response has not ended, by stream
        self._early: set[int] = set()  # streams whose response has ended before the request came
        self.evicted = 0
        """Streams that were given up because too many were open."""

    def _take(self, half: Half, kind: int, flags: int, stream: int, payload: bytes, out: list[Message]) -> None:
        """A frame of one of the types in `KEPT`; `payload` is shorter than the frame says if its end was not seen."""
        if kind == h2.HEADERS:
            self._headers(half, flags, stream, payload, 0, out)
        elif kind == h2.RST_STREAM:
            self._reset(half, stream, payload, out)
        elif kind == h2.CONTINUATION:
            self._continue(half, flags, payload, out)
        elif kind == h2.SETTINGS:
            self._set(half, flags, payload)
        elif kind == h2.GOAWAY:
            self._go_away(half, payload, out)
        else:
            self._promise(half, flags, stream, payload, out)

    # -- header blocks ---------------------------------------------------------------------------------------------

    def _headers(self, half: Half, flags: int, stream: int, payload: bytes, promised: int, out: list[Message]) -> None:
        before = _PROMISED if promised else _PRIORITY if flags & h2.WITH_PRIORITY else 0
        fragment, cut = _fragment(payload, flags, half.end - half.begin - h2.HEADER_SIZE, before)
        if flags & h2.END_HEADERS:
            head = half.decoder.decode_cut(fragment) if cut else half.decoder.decode(fragment)
            self._block(half, stream, head, half.begin, bool(flags & h2.END_STREAM), promised, out)
        else:
            block = half.block = Block(stream, half.begin, ends=bool(flags & h2.END_STREAM), promised=promised)
            self._gather(block, fragment, cut=cut)

    def _promise(self, half: Half, flags: int, stream: int, payload: bytes, out: list[Message]) -> None:
        if half is self._client:
            raise ProtocolError("a client promises a push")
        at = 1 if flags & h2.PADDED else 0
        if len(payload) < at + _PROMISED:  # not seen: for which stream does not matter to the table
            promised = h2.LARGEST_STREAM - 1
        else:
            promised = _number(payload, at)[0] & h2.LARGEST_STREAM
        if promised & 1 or not promised:
            raise ProtocolError(f"stream {promised} is not a server's to promise")
        self._headers(half, flags & (h2.END_HEADERS | h2.PADDED), stream, payload, promised, out)

    def _continue(self, half: Half, flags: int, payload: bytes, out: list[Message]) -> None:
        block = half.block
        assert block is not None
        self._gather(block, payload, cut=len(payload) < half.end - half.begin - h2.HEADER_SIZE)
        if flags & h2.END_HEADERS:
            half.block = None
            fragment = bytes(block.fragments)
            head = half.decoder.decode_cut(fragment) if block.cut else half.decoder.decode(fragment)
            self._block(half, block.stream, head, block.begin, block.ends, block.promised, out)

    def _gather(self, block: Block, fragment: bytes, *, cut: bool) -> None:
        if not block.cut:
            block.fragments += fragment[: self._head_limit - len(block.fragments)]
            block.cut = cut or len(block.fragments) >= self._head_limit

    def _block(
        self, half: Half, stream: int, head: Head, begin: int, ends: bool, promised: int, out: list[Message]
    ) -> None:
        """A header block is whole, or what was seen of it is all that ever will be."""
        if promised:
            message = self._message(half, promised, head, begin, head.of_request, out)
            message.end = half.end
            message.body_size = 0
            self._ask(promised, Open(message, self._call, half.losses, None, half.losses))
            return
        opened = half.open.get(stream)
        if opened is not None:
            if ends:  # another one that does not end the stream is malformed
                self._trailers(half, stream, opened, head, out)
        elif half is self._client:
            self._request(half, stream, head, begin, ends, out)
        else:
            self._response(half, stream, head, begin, ends, out)

    def _request(self, half: Half, stream: int, head: Head, begin: int, ends: bool, out: list[Message]) -> None:
        if stream <= half.last_stream:
            return
        if not stream & 1:
            raise ProtocolError(f"a client does not open stream {stream}")
        half.last_stream = stream
        if half.losses and ends and not head.pseudo:
            return  # trailers of a request that began unseen
        message = self._message(half, stream, head, begin, head.of_request, out)
        opened = self._start(half, stream, message, head, ends)
        if stream in self._early:
            self._early.remove(stream)
        else:
            self._ask(stream, opened)

    def _response(self, half: Half, stream: int, head: Head, begin: int, ends: bool, out: list[Message]) -> None:
        if 100 <= head.status < 200 and not ends:
            return
        asked = self._asked.get(stream)
        if asked is None and (not stream & 1 or stream <= self._client.last_stream or stream in self._early):
            return
        if half.losses and ends and not head.pseudo:
            opened = self._headless(half, stream, out)
            if opened is not None:
                self._trailers(half, stream, opened, head, out)
            return
        message = self._message(half, stream, head, begin, head.of_response, out)
        if asked is not None:
            message.method = asked.message.method
            message.upgrade = message.method == "CONNECT" and 200 <= message.status < 300
        self._start(half, stream, message, head, ends)
        if ends:
            self._answered(stream, out)

    def _message(
        self, half: Half, stream: int, head: Head, begin: int, unknown: frozenset[str], out: list[Message]
    ) -> StreamMessage:
        message = StreamMessage(
            half.side,
            begin,
            half.end,
            head.method,
            head.target,
            head.status,
            "2",
            head.headers,
            stream=stream,
            unknown=unknown,
        )
        if head.beyond:
            message.incomplete = _BEYOND
        out.append(message)
        return message

    def _start(self, half: Half, stream: int, message: StreamMessage, head: Head, ends: bool) -> Open:
        parts = Parts() if head.grpc else None
        opened = Open(message, self._call, half.losses, parts, self._server.losses)
        if ends:
            message.end = half.end
            message.body_size = 0
            message.parts = 0 if head.grpc else -1
        else:
            self._hold(half.open, stream, opened)
        return opened

    def _trailers(self, half: Half, stream: int, opened: Open, head: Head, out: list[Message]) -> None:
        message = opened.message
        message.trailers = head.headers
        if head.of_trailers:
            message.unknown |= head.of_trailers
        if head.beyond:
            message.incomplete = _BEYOND
        self._end(half, stream, opened, half.end, out)

    def _headless(self, half: Half, stream: int, out: list[Message]) -> Open | None:
        """A response goes on whose head must have been in what was lost: announced as far as it is known."""
        asked = self._asked.get(stream)
        if half is not self._server or asked is None or asked.answer_losses == half.losses:
            return None
        message = self._message(half, stream, _UNSEEN, half.begin, _UNSEEN.of_response, out)
        message.method = asked.message.method
        message.head_end = message.begin
        opened = Open(message, self._call, -1, None)
        self._hold(half.open, stream, opened)
        return opened

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

    # -- ends ------------------------------------------------------------------------------------------------------

    def _end(self, half: Half, stream: int, opened: Open, end: int, out: list[Message]) -> None:
        """An open message ends."""
        message = opened.message
        message.end = end
        if opened.losses == half.losses and opened.body_size >= 0:
            message.body_size = opened.body_size
            message.parts = opened.parts.count if opened.parts is not None else -1
        elif message.incomplete is _NONE:
            message.incomplete = _UNKNOWN_SIZE
        del half.open[stream]
        self._tell(opened, out)
        if half is self._server:
            self._answered(stream, out)

    def _tell(self, opened: Open, out: list[Message]) -> None:
        if opened.call != self._call:
            opened.call = self._call
            out.append(opened.message)

    def _answered(self, stream: int, out: list[Message]) -> None:
        """A response has ended."""
        asked = self._asked.pop(stream, None)
        client = self._client
        if asked is None:
            if stream > client.last_stream:
                if len(self._early) >= self._max_streams:
                    self._early.clear()
                self._early.add(stream)
        elif asked.losses != client.losses and stream in client.open:
            self._end(client, stream, asked, client.position, out)  # what ended it was lost

    def _reset(self, half: Half, stream: int, payload: bytes, out: list[Message]) -> None:
        code = _number(payload)[0] if len(payload) == _NUMBER else -1
        asked = self._asked.get(stream)
        whole = True
        for side in (self._client, self._server):
            opened = side.open.get(stream)
            if opened is not None:
                whole = False
                opened.message.reset = code
                if code < 0:
                    opened.message.incomplete = _CLOSED
                self._end(side, stream, opened, half.end if side is half else side.position, out)
        if asked is not None:
            self._asked.pop(stream, None)
            if whole:
                asked.message.reset = code
                self._tell(asked, out)

    def _go_away(self, half: Half, payload: bytes, out: list[Message]) -> None:
        if half is self._client or len(payload) < _NUMBER:
            return
        last = _number(payload)[0] & h2.LARGEST_STREAM
        refused = []
        for stream in reversed(self._asked):
            if stream & 1:
                if stream <= last:
                    break
                refused.append(stream)
        for stream in reversed(refused):
            if stream in half.open:
                continue
            asked = self._asked.pop(stream)
            asked.message.reset = REFUSED_STREAM
            if stream in self._client.open:
                self._end(self._client, stream, asked, self._client.position, out)
            else:
                self._tell(asked, out)

    def _set(self, half: Half, flags: int, payload: bytes) -> None:
        """What one side sets holds for the frames of the other."""
        other = self._client if half is self._server else self._server
        if flags & h2.ACK:
            return
        for name, value in _setting(payload[: len(payload) // _SETTING * _SETTING]):
            if name == h2.SETTINGS_HEADER_TABLE_SIZE:
                other.decoder.table.allow(value)
            elif name == h2.SETTINGS_MAX_FRAME_SIZE:
                other.max_frame = max(other.max_frame, min(value, h2.LARGEST_FRAME))

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _ask(self, stream: int, opened: Open) -> None:
        self._hold(self._asked, stream, opened)

    def _hold(self, held: dict[int, Open], stream: int, opened: Open) -> None:
        """Where too many are held the oldest go, an eighth at once: the first key of a dict is not found in no time."""
        if len(held) >= self._max_streams:
            for oldest in list(islice(held, self._max_streams // 8 + 1)):
                for each in (self._asked, self._client.open, self._server.open):
                    each.pop(oldest, None)
                self.evicted += 1
        held[stream] = opened


def _fragment(payload: bytes, flags: int, length: int, before: int) -> tuple[bytes, bool]:
    """The header block fragment in a payload, and whether its end is missing; `length` is what the whole payload has,
    `before` what stands before the fragment, the length of the padding not counted."""
    padding = 0
    if flags & h2.PADDED:
        before += 1
        padding = payload[0] if payload else 0
    end = length - padding
    if end < before:
        raise ProtocolError("more padding than payload")
    return payload[before:end], len(payload) < end


def _unpadded(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at == end or data[at] >= end - at:
        raise ProtocolError("more padding than payload")
    return at + 1, end - data[at]
