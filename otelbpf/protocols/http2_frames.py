"""Frames of HTTP/2 (RFC 9113 section 4): their header, their types, and what is certainly none."""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""

HEADER_SIZE: Final = 9

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
WITH_PRIORITY: Final = 0x20
AROUND_BLOCK: Final = END_HEADERS | PADDED | WITH_PRIORITY
"""What a HEADERS payload has beside its header block, and whether that ends with it."""

SETTINGS_HEADER_TABLE_SIZE: Final = 1
SETTINGS_MAX_FRAME_SIZE: Final = 5

DEFAULT_MAX_FRAME: Final = 16384
"""Section 6.5.2: what every endpoint must take."""
LARGEST_FRAME: Final = (1 << 24) - 1
LARGEST_STREAM: Final = (1 << 31) - 1

KEPT: Final = frozenset({HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION})
"""Types whose payload means something here; that of DATA is counted, others are passed over, unknown ones too
(section 4.1)."""

_FIXED: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})
_OF_STREAM: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_LEAST: Final = {GOAWAY: 8, PUSH_PROMISE: 4}


def is_frame(kind: int, flags: int, stream: int, length: int) -> bool:
    """Whether section 6 allows such a header; a type that is unknown is allowed everything."""
    if kind in _OF_STREAM:
        return stream > 0 and _FIXED.get(kind, length) == length and length >= _LEAST.get(kind, 0)
    if kind in _OF_CONNECTION:
        if stream or _FIXED.get(kind, length) != length or length < _LEAST.get(kind, 0):
            return False
        return kind != SETTINGS or (not length if flags & ACK else not length % 6)
    return kind != WINDOW_UPDATE or length == _FIXED[WINDOW_UPDATE]


def read_header(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Length, type, flags, and stream with its reserved bit, of the frame whose header stands at `at`, whole."""
    length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
    stream = data[at + 5] << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
    return length, data[at + 3], data[at + 4], stream
