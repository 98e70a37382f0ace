"""The few protobuf wire primitives that OTLP spans need.

https://protobuf.dev/programming-guides/encoding/: a field is a tag (number and wire type) and a value; strings, bytes
and messages are a varint length and so many bytes; a negative int64 is a varint of ten bytes in two's complement.
"""

from __future__ import annotations

from typing import Final

from otelbpf.exporters.text import utf8

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5


def varint(number: int) -> bytes:
    """Base 128, least significant group first; of the lowest 64 bits."""
    if 0 <= number < 0x80:
        return bytes((number,))
    if 0 <= number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if 0 <= number < 0x20_0000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """What stands before a value."""
    return varint(field << 3 | wire_type)


def delimited(field: int, body: bytes) -> bytes:
    """A string, bytes or message field."""
    return tag(field, LENGTH) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """A string field, left out when empty, as proto3 does outside of oneofs."""
    return delimited(field, utf8(value)) if value else b""


def prefixes(field: int, count: int) -> tuple[bytes, ...]:
    """Tag and length of a length-delimited field, for every length below `count`."""
    start = tag(field, LENGTH)
    return tuple(start + varint(length) for length in range(count))
