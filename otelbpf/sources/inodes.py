"""Which inode a file really has, the one that the kernel keeps uprobes by.

Each mount of an overlay shows inodes of its own, a device for every container, where the kernel's uprobes are those of
the file below. From Linux 6.6 on a handle (name_to_handle_at(2)) names that one; before that /proc/PID/maps did.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Hashable
from typing import Final

_AT_EMPTY_PATH: Final = 0x1000
_AT_HANDLE_FID: Final = 0x200
_OVERLAY: Final = (0xF8, 0xFB)
"""Types of an overlay's handle: OVL_FILEID_V1, OVL_FILEID_V0."""
_HEAD: Final = struct.Struct("<Ii")
"""struct file_handle: bytes of the handle, its type."""
_MAX_HANDLE: Final = 128
_UUID: Final = slice(8, 24)
"""Of the file system below, within the handle (struct ovl_fb, from its fourth byte on)."""
_libc = ctypes.CDLL(None, use_errno=True)


def inode_of(file: int) -> Hashable:
    """Equal for two open files only where they have one inode; for one inode nearly always."""
    status = os.fstat(file)
    handle = _overlay_handle(file)
    # A file that was copied up keeps its handle: the time tells it from the one below. Images that are mounted once
    # for each container (erofs, squashfs) may have neither a number of their own nor times that tell them apart.
    if handle and (any(handle[_UUID]) or status.st_ctime_ns % 1_000_000_000):
        return handle, status.st_ctime_ns
    return status.st_dev, status.st_ino


def _overlay_handle(file: int) -> bytes:
    """Empty where the file is none of an overlay, or the kernel does not say."""
    buffer = ctypes.create_string_buffer(_HEAD.pack(_MAX_HANDLE, 0), _HEAD.size + _MAX_HANDLE)
    mount = ctypes.c_int()
    if _libc.name_to_handle_at(file, b"", buffer, ctypes.byref(mount), _AT_EMPTY_PATH | _AT_HANDLE_FID):
        return b""
    size, kind = _HEAD.unpack_from(buffer)
    return buffer.raw[_HEAD.size : _HEAD.size + size] if kind in _OVERLAY else b""
