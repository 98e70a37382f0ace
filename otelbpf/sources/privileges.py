"""Gives up what is not needed once the probes are attached: strangers' bytes are parsed with as little power as can be.

Capabilities belong to a thread: those started later inherit what is left, those started before keep theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

DAC_READ_SEARCH: Final = 2
SYS_PTRACE: Final = 19
SYS_ADMIN: Final = 21
PERFMON: Final = 38
BPF: Final = 39
CHECKPOINT_RESTORE: Final = 40
NAMES: Final = {
    DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
    SYS_PTRACE: "CAP_SYS_PTRACE",
    SYS_ADMIN: "CAP_SYS_ADMIN",
    PERFMON: "CAP_PERFMON",
    BPF: "CAP_BPF",
    CHECKPOINT_RESTORE: "CAP_CHECKPOINT_RESTORE",
}
KEPT: Final = (BPF, SYS_PTRACE, DAC_READ_SEARCH)
"""Maps are read by bpf(2); /proc of other users' processes needs the other two."""
KEPT_FOR_TLS: Final = (*KEPT, CHECKPOINT_RESTORE)
"""Libraries that were replaced on disk are opened through /proc/PID/map_files (proc(5)). Uprobes are attached by a
process of its own: sources.uprober."""

_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_CAPBSET_DROP: Final = 24
_PR_GET_SECUREBITS: Final = 27
_PR_SET_SECUREBITS: Final = 28
_SECBIT_NO_SETUID_FIXUP: Final = 4
_NOBODY: Final = 65534
_PR_SET_NO_NEW_PRIVS: Final = 38
_libc = ctypes.CDLL(None, use_errno=True)


def effective() -> int:
    """This thread's effective capabilities, a bit each."""
    return _read()[0]


def has(capability: int) -> bool:
    """Whether this thread has a capability."""
    return bool(effective() >> capability & 1)


def drop_privileges(kept: tuple[int, ...] = KEPT) -> None:
    """Keep `kept` of what this thread has, for good: nothing it starts can have more."""
    wanted = sum(1 << capability for capability in kept)
    _, permitted = _read()
    for capability in range(64):
        if not wanted >> capability & 1:
            # Refused beyond the kernel's last capability, and without CAP_SETPCAP: then nothing can be gained anyway.
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    left = permitted & wanted
    header = struct.pack("<Ii", _VERSION, 0)
    low, high = left & 0xFFFF_FFFF, left >> 32
    if _libc.capset(header, struct.pack("<IIIIII", low, low, 0, high, high, 0)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with contextlib.suppress(OSError):
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@contextlib.contextmanager
def not_as_root() -> Iterator[None]:
    """Where this process is root, it is nobody meanwhile, with the capabilities that it has; where that cannot be,
    nothing changes. Only for a process that does nothing else meanwhile."""
    before = _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    # Without this bit a change of the user would take the capabilities away (capabilities(7)).
    if os.geteuid() or _libc.prctl(_PR_SET_SECUREBITS, before | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a user namespace that has nobody but root
            os.seteuid(_NOBODY)
        yield
    finally:
        os.seteuid(0)
        _libc.prctl(_PR_SET_SECUREBITS, before, 0, 0, 0)


def what_to_keep(wanted: tuple[int, ...], *, suffices: Callable[[], bool]) -> tuple[int, ...]:
    """`wanted`, and SYS_ADMIN where it stood for a BPF that this process was not given (Docker may not know it by name)
    and without which the kernel, before 5.19, refuses what `suffices` tries."""
    if has(BPF) or not has(SYS_ADMIN):
        return wanted

    def attempt() -> bool:
        drop_privileges(wanted)
        return suffices()

    with ThreadPoolExecutor(1) as thread:
        return wanted if thread.submit(attempt).result() else (*wanted, SYS_ADMIN)


def _read() -> tuple[int, int]:
    header = ctypes.create_string_buffer(struct.pack("<Ii", _VERSION, 0), 8)
    sets = ctypes.create_string_buffer(24)
    if _libc.capget(header, sets):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    low, low_permitted, _, high, high_permitted, _ = struct.unpack("<IIIIII", sets.raw)
    return low | high << 32, low_permitted | high_permitted << 32
