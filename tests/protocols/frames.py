"""Frames of HTTP/2 by hand (RFC 9113 section 6)."""

from __future__ import annotations

import struct

from otelbpf.protocols.http2_frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS

END = END_STREAM | END_HEADERS


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; `length` where it is not to be the payload's."""
    size = len(payload) if length is None else length
    return struct.pack(">BHBBL", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame; names as _1, _5."""
    payload = b"".join(struct.pack(">HL", int(name[1:]), value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


OPENING = PREFACE + settings()
"""What a client begins with."""

GET = b"\x82\x86\x84\x41\x01h"
"""GET http://h/; host is inserted into the table."""
POST_GRPC = b"\x83\x86\x84\x41\x01h\x5f\x10application/grpc"
OK_GRPC = b"\x88\x5f\x10application/grpc"


def head(stream: int, block: bytes = GET, flags: int = END, *, pieces: int = 1) -> bytes:
    """HEADERS, and CONTINUATION frames where it is to come in several."""
    if pieces == 1:
        return frame(HEADERS, flags, stream, block)
    size = -(-len(block) // pieces)
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    out = frame(HEADERS, flags & ~END_HEADERS, stream, parts[0])
    for part in parts[1:-1]:
        out += frame(CONTINUATION, 0, stream, part)
    return out + frame(CONTINUATION, END_HEADERS, stream, parts[-1])


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """DATA."""
    return frame(DATA, flags, stream, payload)


def part(payload: bytes) -> bytes:
    """One message of gRPC."""
    return b"\0" + len(payload).to_bytes(4) + payload
