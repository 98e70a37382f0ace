"""cgroup v2: a folder's id, which is what the kernel says of a task, and the folder of an id."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from otelbpf.errors import ConfigError

_FILEID_KERNFS: Final = 0xFE
"""include/linux/exportfs.h: a handle of the file systems of kernfs is the folder's id."""
_libc = ctypes.CDLL(None, use_errno=True)


def cgroup_root() -> Path | None:
    """Where the cgroup v2 hierarchy is mounted; None where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    return None


def cgroup_id(path: str) -> int:
    """The id of a cgroup given by its folder, or by its path below the root (system.slice/nginx.service). Raises
    ConfigError where there is none."""
    root = cgroup_root()
    if root is None:
        raise ConfigError("no cgroup v2 hierarchy is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    folder = Path(path)
    if not folder.is_relative_to(root):
        folder = root / path.lstrip("/")
    if not folder.is_dir():
        raise ConfigError(f"there is no cgroup {path}", f"see {root}")
    return folder.stat().st_ino


def cgroup_path(number: int) -> str:
    """The path below the root of the cgroup with this id; empty where there is none any more, or it may not be asked
    for (open_by_handle_at(2) wants CAP_DAC_READ_SEARCH)."""
    root = cgroup_root()
    if root is None:
        return ""
    handle = ctypes.create_string_buffer(struct.pack("=IiQ", 8, _FILEID_KERNFS, number), 16)
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = _libc.open_by_handle_at(mount, handle, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(mount)
    if folder < 0:
        return ""
    try:
        found = os.readlink(f"/proc/self/fd/{folder}")
    finally:
        os.close(folder)
    return found.removeprefix(str(root)) if not found.endswith(" (deleted)") else ""
