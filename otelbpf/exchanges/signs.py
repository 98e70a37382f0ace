"""By what HTTP/2 is known: its client's preface, an upgrade, or frames where a connection is met midway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otelbpf.connections.piece import Piece
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols.base import Message, StreamMessage
from otelbpf.protocols.http2_frames import PREFACE
from otelbpf.protocols.http2_seek import begins_with_frames
from otelbpf.values import as_dict

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
