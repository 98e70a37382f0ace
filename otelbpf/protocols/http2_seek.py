"""Where frames begin again, after bytes that framed them were not seen, or where a listener joined midway.

Nothing marks the begin of a frame, so it is believed only where a system call's bytes begin with a chain of headers
each of which is exactly what the protocol allows, and the chain either ends where the bytes do or goes on for a while.
One header is a coincidence of about one in a billion in content that is random, and content that is text never is one.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols import http2_frames as h2

ENOUGH: Final = 3
"""Headers in a chain that need not end with the bytes."""

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
"""Those a type defines; senders leave the others unset (RFC 9113 section 4.1)."""


def begins_with_frames(data: bytes, max_frame: int = h2.DEFAULT_MAX_FRAME) -> bool:
    """Whether `data`, which one system call wrote or read, begins with a frame. No is said also where that is merely
    not proved."""
    at, count = 0, 0
    block = False  # within a header block
    while len(data) - at >= h2.HEADER_SIZE:
        high, low, kind, flags, stream = h2.header(data, at)
        length = high << 16 | low
        if length > max_frame or kind >= len(_FLAGS) or flags & ~_FLAGS[kind] or stream > h2.LARGEST_STREAM:
            return False
        if not h2.is_frame(kind, flags, stream, length) or (kind == h2.CONTINUATION) is not block:
            return False
        if kind in (h2.HEADERS, h2.PUSH_PROMISE, h2.CONTINUATION):
            block = not flags & h2.END_HEADERS
        if flags & h2.PADDED and kind != h2.SETTINGS and not length:
            return False
        count += 1
        if count == ENOUGH:
            return True
        at += h2.HEADER_SIZE + length
    return count > 0 and at == len(data)
