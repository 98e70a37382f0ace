"""Header blocks of an HTTP/2 conversation: which frames make one up, and which message begins or ends with it.

The meaning of a block follows from its side and its stream: the client's first one is the request, the server's first
one that is final the response, the second one of either side its trailers (RFC 9113 section 8.1).
"""

from __future__ import annotations

import struct
from typing import Final

from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Incomplete, Message, ProtocolError
from otelbpf.protocols.grpc import parts_of
from otelbpf.protocols.http2_half import Block, Half, Open
from otelbpf.protocols.http2_head import Head
from otelbpf.protocols.http2_streams import BEYOND, UNSEEN, Streams

_PROMISED: Final = 4
_PRIORITY: Final = 5
_NO_STREAM: Final = -1
_number: Final = struct.Struct(">L").unpack_from


class Blocks(Streams):
    """Takes the frames whose payload means something."""

    __slots__ = ()

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
            self._place(half, stream, head, half.begin, bool(flags & h2.END_STREAM), promised, out)
        else:
            block = half.block = Block(stream, half.begin, ends=bool(flags & h2.END_STREAM), promised=promised)
            self._gather(block, fragment, cut=cut)

    def _promise(self, half: Half, flags: int, stream: int, payload: bytes, out: list[Message]) -> None:
        if half is self._client:
            raise ProtocolError("a client promises a push")
        at = 1 if flags & h2.PADDED else 0
        promised = _NO_STREAM
        if len(payload) >= at + _PROMISED:
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
            self._place(half, block.stream, head, block.begin, block.ends, block.promised, out)

    def _gather(self, block: Block, fragment: bytes, *, cut: bool) -> None:
        if not block.cut:
            block.fragments += fragment[: self._head_limit - len(block.fragments)]
            block.cut = cut or len(block.fragments) >= self._head_limit

    def _place(
        self, half: Half, stream: int, head: Head, begin: int, ends: bool, promised: int, out: list[Message]
    ) -> None:
        """A header block is whole, or what was seen of it is all that ever will be."""
        if not promised:
            self._block(half, stream, head, begin, ends, out)
        elif promised != _NO_STREAM:
            opened = self._start(half, promised, head, begin, True, head.of_request, out)
            self._hold(self._asked, promised, opened)

    def _block(self, half: Half, stream: int, head: Head, begin: int, ends: bool, out: list[Message]) -> None:
        """That of a HEADERS frame, and of those that continue it."""
        opened = half.open.get(stream)
        if opened is not None:
            if half is self._server and not opened.message.status:
                self._correct(half, stream, opened, head, begin, ends, out)
            elif ends:  # another one that does not end the stream is malformed
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
        opened = self._start(half, stream, head, begin, ends, head.of_request, out)
        if stream in self._early:
            self._early.remove(stream)
        else:
            self._hold(self._asked, stream, opened)

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
        message = self._start(half, stream, head, begin, ends, head.of_response, out).message
        if asked is not None:
            method = message.method = asked.message.method
            if method == "CONNECT":
                message.upgrade = 200 <= message.status < 300
        if ends:
            self._answered(stream, out)

    def _correct(
        self, half: Half, stream: int, opened: Open, head: Head, begin: int, ends: bool, out: list[Message]
    ) -> None:
        """Another block behind a response whose status is not known: unless it is trailers, that one was interim."""
        message = opened.message
        if head.pseudo or not ends:
            if 100 <= head.status < 200:
                return
            message.begin, message.head_end = begin, half.end
            message.status = head.status
            message.headers = head.headers
            message.unknown = head.of_response
            message.incomplete = BEYOND if head.beyond else Incomplete.NONE
            opened.parts = parts_of(head.grpc) if head.grpc else None
            if ends:
                self._end(half, stream, opened, half.end, out)
            return
        if not opened.body_size:  # it may be either, so which of the two is the head is not known
            head = UNSEEN
            message.headers = head.headers
            message.head_end = message.begin
        self._trailers(half, stream, opened, head, out)

    def _trailers(self, half: Half, stream: int, opened: Open, head: Head, out: list[Message]) -> None:
        message = opened.message
        message.trailers = head.headers
        if head.of_trailers:
            message.unknown |= head.of_trailers
        if head.beyond:
            message.incomplete = BEYOND
        self._end(half, stream, opened, half.end, out)


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
