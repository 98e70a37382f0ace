"""Uprobes: a program attached to a place in a file, in every process that has or will have it mapped.

The kernel keeps them by inode, so it matters neither by which path the file is reached nor whether its name is gone.
Needs CAP_SYS_ADMIN.

There are two ways. A link of BPF (kernel commit 89ae89f53d20, Linux 6.6) is gone within some tens of milliseconds, and
many go side by side; an event of perf, which all kernels have, takes the kernel a tenth of a second, one after the
other, and whoever attaches anything waits for it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from otelbpf.errors import KernelError

_DEVICE: Final = Path("/sys/bus/event_source/devices/uprobe")
_SYS_PERF_EVENT_OPEN: Final = 298  # x86_64
_SYS_BPF: Final = 321
_LINK_CREATE: Final = 28
ATTACH_TYPE: Final = 48
"""BPF_TRACE_UPROBE_MULTI: programs must be loaded with it to be linked. Older kernels do not look at it."""
_RETURN: Final = 1  # BPF_F_UPROBE_MULTI_RETURN
_SET_BPF: Final = 0x40042408
_ENABLE: Final = 0x2400
_CLOSE_ON_EXEC: Final = 8
_EVERY_PROCESS: Final = -1
_A_CPU: Final = 0
"""perf_event_open wants one named; the program runs wherever the place is reached."""
# struct perf_event_attr, its second version: type, size, config, sample_period, sample_type, read_format, flags,
# wakeup_events, bp_type, config1 (uprobe_path), config2 (probe_offset)
_ATTRIBUTES: Final = struct.Struct("<IIQQQQQIIQQ")
# The part of union bpf_attr that BPF_LINK_CREATE uses: prog_fd, target_fd, attach_type, flags; uprobe_multi: path,
# offsets, ref_ctr_offsets, cookies, cnt, flags, pid
_LINK: Final = struct.Struct("<IIIIQQQQIII4x")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Uprobes:
    """This kernel's way to make uprobes."""

    def __init__(self, device: Path = _DEVICE) -> None:
        """Raises KernelError where there is none."""
        try:
            self._type = int((device / "type").read_text())
            self._at_return = 1 << int((device / "format" / "retprobe").read_text().strip().removeprefix("config:"))
        except (OSError, ValueError) as error:
            raise KernelError(f"no uprobes ({error})", "needs a kernel built with CONFIG_UPROBE_EVENTS") from None
        self._links = True  # until the kernel refuses one and takes an event

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        """Run `program` where the code at `offset` of the open `file` is reached, or where that function returns.
        Closing the descriptor it gives takes it away. Raises OSError."""
        path = ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())
        if self._links:
            try:
                return _link(program, path, offset, at_return=at_return)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        event = self._open_event(path, offset, at_return=at_return)
        try:
            fcntl.ioctl(event, _SET_BPF, program)
            fcntl.ioctl(event, _ENABLE, 0)
        except OSError:
            os.close(event)
            raise
        self._links = False
        return event

    def _open_event(self, path: ctypes.Array[ctypes.c_char], offset: int, *, at_return: bool) -> int:
        attributes = _ATTRIBUTES.pack(
            self._type,
            _ATTRIBUTES.size,
            self._at_return if at_return else 0,
            1,
            0,
            0,
            0,
            1,
            0,
            ctypes.addressof(path),
            offset,
        )
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        return _checked(_libc.syscall(_SYS_PERF_EVENT_OPEN, buffer, _EVERY_PROCESS, _A_CPU, -1, _CLOSE_ON_EXEC))


def _link(program: int, path: ctypes.Array[ctypes.c_char], offset: int, *, at_return: bool) -> int:
    offsets = ctypes.c_uint64(offset)
    attributes = _LINK.pack(
        program,
        0,
        ATTACH_TYPE,
        0,
        ctypes.addressof(path),
        ctypes.addressof(offsets),
        0,
        0,
        1,
        _RETURN if at_return else 0,
        0,
    )
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _checked(_libc.syscall(_SYS_BPF, _LINK_CREATE, buffer, len(attributes)))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
