"""The streams of an HTTP/2 conversation, and the messages that begin and end on them.

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
from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Incomplete, Message, StreamMessage
from otelbpf.protocols.grpc import parts_of
from otelbpf.protocols.http2_half import Half, Open
from otelbpf.protocols.http2_head import Head, read_head

REFUSED_STREAM: Final = 7
"""RFC 9113 section 7."""

_NO_FIELDS: Final[dict[str, str]] = {}
_CLOSED: Final = Incomplete.CLOSED
_NONE: Final = Incomplete.NONE
BEYOND: Final = Incomplete.HEAD_BEYOND_LIMIT
_UNKNOWN_SIZE: Final = Incomplete.BODY_SIZE_UNKNOWN
_NUMBER: Final = 4
_SETTING: Final = 6
UNSEEN: Final = read_head({}, unnamed=True, beyond=True)
_number: Final = struct.Struct(">L").unpack_from
_setting: Final = struct.Struct(">HL").iter_unpack


class Streams:
    """What is open, and how it ends; how it begins is told in header blocks (see `http2_blocks`)."""

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

    # -- beginnings and ends ----------------------------------------------------------------------------------------

    def _start(
        self, half: Half, stream: int, head: Head, begin: int, ends: bool, unknown: frozenset[str], out: list[Message]
    ) -> Open:
        """A message begins, and has no content where its head `ends` the stream."""
        grpc = head.grpc
        message = StreamMessage(
            half.side,
            begin,
            half.end,
            head.method,
            head.target,
            head.status,
            "2",
            head.headers,
            half.end if ends else -1,
            0 if ends else -1,
            BEYOND if head.beyond else _NONE,
            False,
            unknown,
            stream,
            _NO_FIELDS,
            -1,
            0 if ends and grpc else -1,
        )
        out.append(message)
        parts = parts_of(grpc) if grpc and not ends else None
        opened = Open(message, self._call, half.losses, self._server.losses, parts)
        if not ends:
            self._hold(half.open, stream, opened)
        return opened

    def _headless(self, half: Half, stream: int, out: list[Message]) -> Open | None:
        """A response goes on whose head must have been in what was lost: announced as far as it is known."""
        asked = self._asked.get(stream)
        if half is not self._server or asked is None or asked.answer_losses == half.losses:
            return None
        opened = self._start(half, stream, UNSEEN, half.begin, False, UNSEEN.of_response, out)
        opened.losses = -1
        message = opened.message
        message.method = asked.message.method
        message.head_end = message.begin
        return opened

    def _end(self, half: Half, stream: int, opened: Open, end: int, out: list[Message]) -> None:
        """An open message ends."""
        message = opened.message
        message.end = end
        if opened.losses == half.losses and opened.body_size >= 0:
            message.body_size = opened.body_size
            if opened.parts is not None:
                opened.parts.tell(message)
        elif message.incomplete is _NONE:
            message.incomplete = _UNKNOWN_SIZE
        del half.open[stream]
        if opened.call != self._call:
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
                _mark_reset(opened.message, code)
                self._end(side, stream, opened, half.end if side is half else side.position, out)
        if asked is not None:
            self._asked.pop(stream, None)
            if whole:
                _mark_reset(asked.message, code)
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
        if len(payload) < half.end - half.begin - h2.HEADER_SIZE:
            other.max_frame = h2.LARGEST_FRAME  # it may have been set in what was not seen
        for name, value in _setting(payload[: len(payload) // _SETTING * _SETTING]):
            if name == h2.SETTINGS_HEADER_TABLE_SIZE:
                other.decoder.table.allow(value)
            elif name == h2.SETTINGS_MAX_FRAME_SIZE:
                other.max_frame = max(other.max_frame, min(value, h2.LARGEST_FRAME))

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _hold(self, held: dict[int, Open], stream: int, opened: Open) -> None:
        """Where too many are held the oldest goes, as it does where its exchange is held."""
        if len(held) >= self._max_streams:
            oldest = next(iter(held))
            for each in (self._asked, self._client.open, self._server.open):
                each.pop(oldest, None)
            self.evicted += 1
        held[stream] = opened


def _mark_reset(message: StreamMessage, code: int) -> None:
    message.reset = code
    if code < 0:  # not seen
        message.incomplete = _CLOSED
