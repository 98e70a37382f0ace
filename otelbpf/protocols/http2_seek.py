"""Where frames begin again, after bytes that framed them were not seen, or where a listener joined midway.

Nothing marks the begin of a frame, so it is believed only where a system call's bytes begin with a chain of headers
each of which is exactly what the protocol allows, and the chain either ends where the bytes do or goes on for a while.
One header is a coincidence of about one in a billion in content that is random, and content that is text never is one.
"""

from __future__ import annotations

import struct
from typing import Final

from otelbpf.protocols import http2_frames as h2

ENOUGH: Final = 3
"""Headers in a chain that need not end with the bytes."""

_LARGEST_CODE: Final = 0xFF
"""Of an error; the registry has 14 (RFC 9113 section 11.4)."""

# The flags a type defines; senders leave the others unset (section 4.1).
_FLAGS: Final = (
    h2.END_STREAM | h2.PADDED,
    h2.END_STREAM | h2.END_HEADERS | h2.PADDED | h2.WITH_PRIORITY,
    0,
    0,
    h2.ACK,
    h2.END_HEADERS | h2.PADDED,
    h2.ACK,
    0,
    0,
    h2.END_HEADERS,
)
_number: Final = struct.Struct(">L").unpack_from


def begins_with_frames(data: bytes, *, newest: int = h2.LARGEST_STREAM) -> bool:
    """Whether `data`, which one system call wrote or read, begins with a frame. No is said also where that is merely
    not proved. `newest`: the highest stream there can be."""
    at, count, kind, length = 0, 0, 0, 0
    block = False  # within a header block
    while len(data) - at >= h2.HEADER_SIZE:
        length, kind, flags, stream = h2.read_header(data, at)
        if kind >= len(_FLAGS) or flags & ~_FLAGS[kind] or stream > newest or (kind == h2.CONTINUATION) is not block:
            return False
        at += h2.HEADER_SIZE
        if length > h2.DEFAULT_MAX_FRAME or not h2.is_frame(kind, flags, stream, length):
            return False
        if not _is_payload(kind, flags, length, data[at : at + 8]):
            return False
        if kind in (h2.HEADERS, h2.PUSH_PROMISE, h2.CONTINUATION):
            block = not flags & h2.END_HEADERS
        at += length
        count += 1
        if count == ENOUGH:
            return True
    # The end of a RST_STREAM, alone, looks like an empty DATA.
    return at == len(data) and (count > 1 or (count == 1 and (length > 0 or kind == h2.SETTINGS)))


def _is_payload(kind: int, flags: int, length: int, first: bytes) -> bool:
    """Whether a payload of some length may begin so, as far as its first bytes are there."""
    if kind == h2.DATA and not length:
        return bool(flags & h2.END_STREAM)  # nobody sends nothing
    if flags & h2.PADDED and kind in (h2.DATA, h2.HEADERS, h2.PUSH_PROMISE):
        return first[:1] < bytes((min(length, 0xFF),))
    if len(first) < min(length, 8):
        return True
    if kind == h2.RST_STREAM:
        return bool(_number(first)[0] <= _LARGEST_CODE)
    if kind == h2.GOAWAY:
        return bool(_number(first)[0] <= h2.LARGEST_STREAM and _number(first, 4)[0] <= _LARGEST_CODE)
    if kind == h2.WINDOW_UPDATE:
        return bool(0 < _number(first)[0] <= h2.LARGEST_STREAM)
    return True
