"""Kprobes by tracefs: room for many calls that wait at once, and nothing left behind.

A return probe keeps a place for every call under way, and a server may have thousands of threads waiting in recv.
Only the tracefs interface lets that number be chosen (`r4096:`), so events are made there, in a group that carries the
pid of the process they belong to; a collector that was killed leaves some, and the next one removes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from otelbpf.errors import KernelError, OtelbpfError, PrivilegeError

RETURNS_AT_ONCE: Final = 4096
"""What the kernel permits at most (KRETPROBE_MAXACTIVE_MAX)."""
_TRACEFS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_EVENT: Final = re.compile(r"[pr]\d*:(otelbpf_(\d+)_\d+)/(\w+) ")
_SYS_PERF_EVENT_OPEN: Final = 298  # x86_64
_TRACEPOINT: Final = 2  # PERF_TYPE_TRACEPOINT
_SET_BPF: Final = 0x40042408
_ENABLE: Final = 0x2400
_CLOSE_ON_EXEC: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def tracefs() -> Path:
    """Where tracefs is mounted; mounts it where it is not. Raises KernelError or PrivilegeError."""
    for folder in _TRACEFS:
        try:
            mounted = (folder / "events").is_dir()
        except PermissionError:
            raise PrivilegeError(f"{folder} may not be read", "run as root, or with CAP_DAC_READ_SEARCH") from None
        if mounted:
            return folder
    folder = _TRACEFS[0]
    if _libc.mount(b"tracefs", str(folder).encode(), b"tracefs", 0, None):
        raise KernelError(
            f"tracefs is not mounted ({os.strerror(ctypes.get_errno())})", f"mount -t tracefs tracefs {folder}"
        )
    return folder


def require() -> None:
    """Raises KernelError where this kernel lets no kprobes be made, PrivilegeError where only this process may not."""
    if not (tracefs() / "kprobe_events").exists():
        raise KernelError(
            "this kernel has no kprobes",
            "needs a kernel built with CONFIG_KPROBE_EVENTS, or --tier tracepoint (Linux 6.3)",
        )


def has_function(name: str) -> bool:
    """Whether the kernel has a function of that name to probe."""
    with open("/proc/kallsyms", encoding="ascii", errors="replace") as symbols:
        return any(line.split(None, 3)[2] == name for line in symbols if name in line)


def has_tracepoint(group: str, name: str, *, folder: Path | None = None) -> bool:
    """Whether the kernel has this tracepoint."""
    return ((folder or tracefs()) / "events" / group / name).is_dir()


def attach(
    programs: Mapping[str, int], entries: Iterable[tuple[str, str]], returns: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, str, str, int]]:
    """Attach programs, by name, to the entries and returns of functions; yields (program's name, function, event,
    descriptor). Returns come first, so that no entry is noted whose return is not awaited."""
    group = f"otelbpf_{os.getppid()}_{os.getpid()}"
    for kind, pairs in (("r", returns), ("p", entries)):
        for name, function in pairs:
            event = f"{group}/{function}_{kind}"
            yield name, function, event, _attach(programs[name], kind, event, function)


def attempt(program: int, function: str) -> None:
    """Attach a program to a function and let go of it. Raises KernelError or PrivilegeError."""
    event = f"otelbpf_{os.getpid()}_0/attempt"
    try:
        os.close(_attach(program, "p", event, function))
    finally:
        remove([event])


def _attach(program: int, kind: str, event: str, function: str) -> int:
    folder = tracefs()
    wanted = f"{kind}{RETURNS_AT_ONCE if kind == 'r' else ''}:{event} {function}"
    try:
        _write(folder, wanted)
    except PermissionError as error:
        raise PrivilegeError("kprobes may not be made", "run as root, or with CAP_SYS_ADMIN") from error
    except OSError as error:
        raise KernelError(
            f"the kernel refuses a kprobe on {function} ({error.strerror})", "try --tier tracepoint (Linux 6.3)"
        ) from error
    number = int((folder / "events" / event / "id").read_text())
    # struct perf_event_attr, its first version: type, size, config, sample_period, sample_type, read_format, flags, …
    attributes = struct.pack("<IIQQQQQIIQ", _TRACEPOINT, 64, number, 1, 0, 0, 0, 1, 0, 0)
    descriptor = _libc.syscall(
        _SYS_PERF_EVENT_OPEN, ctypes.create_string_buffer(attributes, 64), -1, 0, -1, _CLOSE_ON_EXEC
    )
    if descriptor < 0:
        code = ctypes.get_errno()
        raise PrivilegeError(f"perf_event_open: {os.strerror(code)}", "run as root, or with CAP_PERFMON")
    fcntl.ioctl(descriptor, _SET_BPF, program)
    fcntl.ioctl(descriptor, _ENABLE, 0)
    return int(descriptor)


def missed(events: Collection[str], *, folder: Path | None = None) -> int:
    """Calls of these events that the kernel passed over, returns without a place above all."""
    folder = folder or tracefs()
    count = 0
    # The profile names events without their group, but in the same order.
    for line, row in zip(_lines(folder / "kprobe_events"), _lines(folder / "kprobe_profile"), strict=False):
        match = _EVENT.match(line)
        fields = row.split()
        if match and f"{match[1]}/{match[3]}" in events and fields[0] == match[3]:
            count += int(fields[2])
    return count


def remove(events: Iterable[str], *, folder: Path | None = None) -> None:
    """Remove events made by `attach`, once their descriptors are closed; harmless where they are gone."""
    for event in events:
        with contextlib.suppress(OSError):
            _write(folder or tracefs(), f"-:{event}")


def remove_abandoned(*, folder: Path | None = None, proc: Path = Path("/proc")) -> list[str]:
    """Remove what collectors that ended without cleaning up have left; the events removed."""
    abandoned = []
    with contextlib.suppress(OSError, OtelbpfError):
        folder = folder or tracefs()
        for line in _lines(folder / "kprobe_events"):
            match = _EVENT.match(line)
            if match and not (proc / match[2]).exists():
                abandoned.append(f"{match[1]}/{match[3]}")
        remove(abandoned, folder=folder)
    return abandoned


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _write(folder: Path, line: str) -> None:
    # Appending keeps what others have made: opening for writing with truncation would remove every kprobe of the host.
    descriptor = os.open(folder / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)
