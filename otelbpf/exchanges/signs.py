"""By what HTTP/2 is known: its client's preface, an upgrade, or frames where a connection is met midway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otelbpf.connections.piece import Piece
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols import http2_frames as h2
from otelbpf.protocols.base import Message, ProtocolError, StreamMessage
from otelbpf.protocols.hpack_decode import Decoder
from otelbpf.protocols.http2 import HEAD_LIMIT
from otelbpf.protocols.http2_frames import PREFACE
from otelbpf.protocols.http2_head import OWN
from otelbpf.protocols.http2_seek import begins_with_frames
from otelbpf.values import as_dict

_WHOLE: Final = h2.AROUND_BLOCK & ~h2.WITH_PRIORITY
_PRIORITY: Final = 5
_SHORTEST: Final = len(b"PRI * HTTP/2")


def is_preface(data: bytes) -> bool:
    """Whether a client of HTTP/2 begins here; the preface may be cut, but not before its version."""
    return len(data) >= _SHORTEST and data.startswith(PREFACE[: len(data)])


def from_frames_on(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces of both sides, each from where it first began a call's bytes with frames; empty while one has not."""
    first = [
        next((at for at, piece in enumerate(pieces) if piece.sent is sent and begins_with_frames(piece.data)), -1)
        for sent in (False, True)
    ]
    return [piece for at, piece in enumerate(pieces) if at >= first[piece.sent]] if min(first) >= 0 else []


def asking_side(pieces: Sequence[Piece]) -> bool | None:
    """Who asks, in pieces of a conversation met midway: whether what was sent, or what was received, has requests. None
    where no header block says whether it is one: by its pseudo-header fields, those that need no table."""
    for piece in pieces:
        if not begins_with_frames(piece.data):
            continue
        data, at = piece.data, 0
        while len(data) - at >= h2.HEADER_SIZE:
            length, kind, flags, _ = h2.read_header(data, at)
            at += h2.HEADER_SIZE
            if kind == h2.HEADERS and flags & _WHOLE == h2.END_HEADERS and at + length <= len(data):
                said = _says(data[at + (_PRIORITY if flags & h2.WITH_PRIORITY else 0) : at + length])
                if said is not None:
                    return piece.sent is said
            at += length
    return None


def _says(block: bytes) -> bool | None:
    """Whether it is a request's; None where that is not to be seen."""
    try:
        head = Decoder(OWN, limit=HEAD_LIMIT, complete=False).decode_cut(block)
    except ProtocolError:
        return None
    if head.status:
        return False
    return True if head.method or head.target or ":scheme" in head.headers else None


def is_h2c(response: Message) -> bool:
    """Whether a 101 changes to HTTP/2 (RFC 7540 section 3.2)."""
    return "h2c" in response.headers.get("upgrade", "").lower()


def upgraded(exchange: Exchange) -> Exchange:
    """The request of an upgrade as the first stream of what it led to."""
    asked = exchange.request
    request = StreamMessage(**{**as_dict(asked), "version": "2"}, stream=1)
    return Exchange(
        request,
        exchange.pid,
        exchange.request_first_ns,
        exchange.request_last_ns,
        serving=exchange.serving,
        running=exchange.running,
        offset=exchange.offset,
    )
