"""Integers and strings of HPACK (RFC 7541 section 5).

Strings are decoded by the states of the `hpack` package, joined so that a step takes a byte instead of half of one, and
those that come again and again are remembered.
"""

from __future__ import annotations

import functools
from typing import Final

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

from otelbpf.protocols.base import ProtocolError
from otelbpf.protocols.text import text

LONGEST_INTEGER: Final = 6
"""Bytes of an integer, its prefix included: the 32 bits of a setting need no more."""

_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 128

_Step = tuple[int, bytes, bool]
"""The next state, shifted to make room for a byte; what this byte brought to light; whether a string may end here."""


class CutError(Exception):
    """The bytes end within a field."""


def integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The integer whose prefix, full of ones (`prefix` is its greatest value), is the byte at `at`, and the index
    behind it."""
    value = prefix
    shift = 0
    for i in range(at + 1, at + LONGEST_INTEGER):
        if i >= len(block):
            raise CutError
        byte = block[i]
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, i + 1
        shift += 7
    raise ProtocolError("an integer of HPACK is too long")


def string(block: bytes, at: int) -> tuple[bytes, bool, int]:
    """The bytes of the string that begins at `at`, whether they are Huffman's, and the index behind it."""
    if at >= len(block):
        raise CutError
    first = block[at]
    length = first & 0x7F
    if length == 0x7F:
        length, at = integer(block, at, 0x7F)
    else:
        at += 1
    end = at + length
    if end > len(block):
        raise CutError
    return block[at:end], first >= 0x80, end


def name_of(raw: bytes, huffman: bool) -> str:
    """A field's name: a character is a byte, so that its length is that of the entry it makes."""
    if not huffman:
        return str(raw, "latin-1")
    return _name(raw) if len(raw) <= _LONGEST_REMEMBERED else str(decode_huffman(raw), "latin-1")


def value_of(raw: bytes, huffman: bool) -> tuple[str, int]:
    """A field's value as text, and how many bytes it has."""
    if not huffman:
        return text(raw), len(raw)
    return _value(raw) if len(raw) <= _LONGEST_REMEMBERED else _decoded(raw)


@functools.lru_cache(maxsize=_REMEMBERED)
def _name(raw: bytes) -> str:
    return str(decode_huffman(raw), "latin-1")


def _decoded(raw: bytes) -> tuple[str, int]:
    decoded = decode_huffman(raw)
    return text(decoded), len(decoded)


_value = functools.lru_cache(maxsize=_REMEMBERED)(_decoded)


_steps: Final[list[_Step | None]] = [None] * 65536


def decode_huffman(raw: bytes) -> bytes:
    """RFC 7541 section 5.2. ProtocolError: no such string."""
    steps = _steps
    out: list[bytes] = []
    state = 0
    complete = True
    for byte in raw:
        step = steps[state | byte] or _step(state, byte)
        state, brought, complete = step
        out.append(brought)
    if not complete:
        raise ProtocolError("a Huffman string ends within a symbol")
    return b"".join(out)


def _step(state: int, byte: int) -> _Step:
    """Made when it is first needed, then kept."""
    brought = bytearray()
    flags = 0
    node = state >> 8
    for nibble in (byte >> 4, byte & 0x0F):
        node, flags, symbol = HUFFMAN_TABLE[node << 4 | nibble]
        if flags & HUFFMAN_FAIL:
            raise ProtocolError("not a Huffman string")
        if flags & HUFFMAN_EMIT_SYMBOL:
            brought.append(symbol)
    step = _steps[state | byte] = node << 8, bytes(brought), bool(flags & HUFFMAN_COMPLETE)
    return step
