"""The smallest BPF programs and maps there are, made to see whether the kernel lets them be. Nothing stays behind."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SYS_BPF: Final = 321  # x86_64
_MAP_CREATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 5, 17
KPROBE, RAW_TRACEPOINT = 2, 17  # enum bpf_prog_type
_RING_BUFFER: Final = 27  # enum bpf_map_type
_TASK_BTF, _TASK_PT_REGS = 158, 175  # enum bpf_func_id
_EXIT: Final = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
_SAVED_REGISTERS: Final = (
    struct.pack("<BBhi", 0x85, 0, 0, _TASK_BTF)  # r0 = bpf_get_current_task_btf()
    + struct.pack("<BBhi", 0xBF, 0x01, 0, 0)  # r1 = r0
    + struct.pack("<BBhi", 0x85, 0, 0, _TASK_PT_REGS)  # r0 = bpf_task_pt_regs(r1)
    + _EXIT
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@contextmanager
def ring_buffer() -> Iterator[int]:
    """A ring buffer of one page. Raises OSError."""
    with _owned(_bpf(_MAP_CREATE, struct.pack("<IIIII", _RING_BUFFER, 0, 0, os.sysconf("SC_PAGESIZE"), 0))) as made:
        yield made


@contextmanager
def program(kind: int, *, saved_registers: bool = False) -> Iterator[int]:
    """A program that does nothing (or only asks for the task's saved registers). Raises OSError."""
    code = _SAVED_REGISTERS if saved_registers else _EXIT
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQIIQI4x",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
    )
    with _owned(_bpf(_PROG_LOAD, attributes)) as made:
        yield made


def raw_tracepoint(name: str, *, saved_registers: bool = False) -> None:
    """Attach a program to a raw tracepoint and let go of it. Raises OSError."""
    text = ctypes.create_string_buffer(name.encode())
    with program(RAW_TRACEPOINT, saved_registers=saved_registers) as loaded:
        os.close(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", ctypes.addressof(text), loaded)))


@contextmanager
def _owned(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2); the kernel takes what is not given as zero."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = _libc.syscall(_SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
