"""BPF maps and programs by descriptor: bpf(2) through ctypes, bytes in and out."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SYS_BPF: Final = 321  # x86_64
_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _TEST_RUN = 1, 2, 3, 4, 10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Element(ctypes.Structure):
    """The part of union bpf_attr that the BPF_MAP_*_ELEM commands use."""

    _fields_ = [
        ("map_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    ]


def lookup(descriptor: int, key: bytes, size: int) -> bytes | None:
    """The value of `key`, `size` bytes; None where there is none."""
    value = ctypes.create_string_buffer(size)
    if _call(_LOOKUP, descriptor, key, value):
        return None
    return value.raw


def update(descriptor: int, key: bytes, value: bytes) -> None:
    """Set the value of `key`. Raises OSError (E2BIG: the map is full)."""
    if error := _call(_UPDATE, descriptor, key, ctypes.create_string_buffer(value, len(value))):
        raise OSError(error, os.strerror(error))


def delete(descriptor: int, key: bytes) -> None:
    """Remove `key`; harmless where it is not there."""
    error = _call(_DELETE, descriptor, key, None)
    if error not in (0, errno.ENOENT):
        raise OSError(error, os.strerror(error))


def keys(descriptor: int, size: int, *, limit: int) -> Iterator[bytes]:
    """The keys of a hash map. A key removed meanwhile makes the kernel start again from the first one, so some may come
    twice; at most `limit` are given."""
    key: bytes | None = None
    for _ in range(limit):
        following = ctypes.create_string_buffer(size)
        if _call(_NEXT_KEY, descriptor, key, following):
            return
        key = following.raw
        yield key


def run(program: int, argument: bytes) -> bool:
    """Run a program of raw tracepoints with this argument; False where the kernel does not do that."""
    context = ctypes.create_string_buffer(argument, len(argument))
    attributes = struct.pack("<I36xI4xQ24x", program, len(argument), ctypes.addressof(context))
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return int(_libc.syscall(_SYS_BPF, _TEST_RUN, buffer, len(attributes))) == 0


def _call(command: int, descriptor: int, key: bytes | None, value: ctypes.Array[ctypes.c_char] | None) -> int:
    key_buffer = None if key is None else ctypes.create_string_buffer(key, len(key))
    element = _Element(
        map_fd=descriptor,
        key=0 if key_buffer is None else ctypes.addressof(key_buffer),
        value=0 if value is None else ctypes.addressof(value),
    )
    result = _libc.syscall(_SYS_BPF, command, ctypes.byref(element), ctypes.sizeof(element))
    return ctypes.get_errno() if result < 0 else 0


def possible_cpus() -> int:
    """Per-CPU maps have a value for each of these, present or not: "0-3" or "0,2-3"."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.rsplit("-")[-1]) for part in text.split(",")) + 1
