"""What can be read about a process (proc(5)), quickly and at its word: it may end between any two reads, and much of it
may be forbidden. What could not be read is empty; nothing raises.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from otelbpf.events.types import Identity
from otelbpf.sources.arguments import bounded
from otelbpf.sources.cgroup_path import read_cgroup, read_pod
from otelbpf.sources.cgroups import cgroup_path
from otelbpf.sources.users import Users
from otelbpf.sources.workloads import Workloads

PROC: Final = Path("/proc")
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_MAX_BYTES: Final = 1 << 18
"""Of one file; Linux itself allows more arguments than that, but nobody looks at them."""
_MAX_VALUE_CHARS: Final = 4096
_UID: Final = re.compile(rb"^Uid:\t\d+\t(\d+)", re.MULTILINE)
_VARIABLE: Final = re.compile(rb"(?:^|\0)(OTEL_SERVICE_NAME|OTEL_RESOURCE_ATTRIBUTES)=([^\0]*)")
_RUNTIMES: Final = {
    "python": "cpython",
    "pypy": "pypy",
    "node": "nodejs",
    "nodejs": "nodejs",
    "bun": "bun",
    "deno": "deno",
    "ruby": "ruby",
    "php": "php",
    "php-fpm": "php",
    "perl": "perl",
    "dotnet": ".NET",
    "beam.smp": "BEAM",
}
_VERSION: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)*t?$")
# The linker's note, in the first page: type 4 (build id), name "Go" (cmd/link/internal/ld/elf.go).
_GO_NOTE: Final = b"\x04\0\0\0Go\0\0"
_SPAWNED: Final = ("from multiprocessing.spawn ", "from multiprocessing.forkserver ")
_MAX_SPAWNERS: Final = 3
_users = Users()


def describe(
    pid: int,
    started_ns: int = 0,
    time_ns: int = 0,
    *,
    comm: str = "",
    cgroup: int = 0,
    forked_from: int = 0,
    proc: Path = PROC,
    users: Users = _users,
    workloads: Workloads | None = None,
) -> Identity:
    """Who process `pid` is. With `started_ns` (since boot) it must be that very process: if its number belongs to
    another one by now, or it has ended, what was given is told: `comm`, the container of its `cgroup`, and the program
    of the process it was `forked_from`, as long as that one runs it. `time_ns` is when it was asked, for the caller's
    order; `workloads` knows the containers."""
    bare = Identity(pid=pid, started_ns=started_ns, time_ns=time_ns, comm=comm)
    found = _describe(bare, proc, users, workloads)
    if found.executable and found.command:
        return found  # who ends while it is read has lost the one or the other
    if forked_from:
        parent = _describe(Identity(pid=forked_from), proc, users, workloads)
        # An orphan has another parent, which runs something else.
        if parent.executable and parent.comm == comm and parent.started_ns <= started_ns:
            return msgspec.structs.replace(
                parent, pid=pid, started_ns=started_ns, time_ns=time_ns, parent_pid=forked_from
            )
    groups = f"0::{cgroup_path(cgroup)}" if cgroup else ""
    container_id, unit = read_cgroup(groups)
    if found.container_id or not (container_id or unit):
        return found
    workload = {} if workloads is None else workloads.of(container_id, read_pod(groups))
    return msgspec.structs.replace(found, container_id=container_id, systemd_unit=unit, workload=workload)


def _describe(bare: Identity, proc: Path, users: Users, workloads: Workloads | None) -> Identity:
    pid = bare.pid
    try:
        # All reads go through the folder: it stays that of this process, whoever gets its number.
        folder = os.open(f"{proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return bare
    try:
        return _read_all(bare, folder, proc, users, workloads)
    finally:
        os.close(folder)


def _read_all(bare: Identity, folder: int, proc: Path, users: Users, workloads: Workloads | None) -> Identity:
    started_ns, parent_pid, comm = _stat(_read(folder, "stat"))
    if bare.started_ns and started_ns and abs(bare.started_ns - started_ns) >= 2 * _TICK_NS:
        return bare
    executable = _executable(folder)
    groups = _read(folder, "cgroup").decode("utf-8", "replace")
    container_id, unit = read_cgroup(groups)
    uid = _UID.search(_read(folder, "status"))
    return Identity(
        pid=bare.pid,
        started_ns=bare.started_ns or started_ns,
        time_ns=bare.time_ns,
        comm=comm or bare.comm,
        executable=executable,
        command=_command_line(_command(_read(folder, "cmdline")), parent_pid, proc),
        parent_pid=parent_pid,
        # A container has users of its own: the host's name for a number would be wrong there.
        owner="" if uid is None else uid[1].decode() if container_id else users.name(int(uid[1])),
        container_id=container_id,
        workload={} if workloads is None else workloads.of(container_id, read_pod(groups)),
        systemd_unit=unit,
        environment=_environment(_read(folder, "environ")),
        runtime_name=_runtime(folder, executable),
    )


def _stat(raw: bytes) -> tuple[int, int, str]:
    """Start in nanoseconds since boot, parent, name. The name stands in parentheses and may hold any character."""
    before, _, after = raw.rpartition(b")")
    fields = after.split()
    if len(fields) < 20:
        return 0, 0, ""
    return int(fields[19]) * _TICK_NS, int(fields[1]), before.partition(b"(")[2].decode("utf-8", "replace")


def _command_line(command: tuple[str, ...], parent_pid: int, proc: Path) -> tuple[str, ...]:
    """A worker that Python's multiprocessing spawned (uvicorn --workers) runs its parent's program: what stands on
    its own command line is only how it is spawned."""
    for _ in range(_MAX_SPAWNERS):
        if parent_pid <= 1 or not any(argument.startswith(_SPAWNED) for argument in command):
            break
        try:
            folder = os.open(f"{proc}/{parent_pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            break
        try:
            command = _command(_read(folder, "cmdline")) or command
            _, parent_pid, _ = _stat(_read(folder, "stat"))
        finally:
            os.close(folder)
    return command


def _command(raw: bytes) -> tuple[str, ...]:
    """A program that gave itself a title may have filled the rest of its arguments' place with NULs."""
    arguments = raw.rstrip(b"\0")
    return bounded(arguments.split(b"\0")) if arguments else ()


def _executable(folder: int) -> str:
    try:
        target = os.readlink(b"exe", dir_fd=folder)
    except OSError:
        return ""
    return target.decode("utf-8", "replace").removesuffix(" (deleted)")


def _environment(raw: bytes) -> dict[str, str]:
    return {
        name.decode(): value.decode("utf-8", "replace")[:_MAX_VALUE_CHARS] for name, value in _VARIABLE.findall(raw)
    }


def _runtime(folder: int, executable: str) -> str:
    name = executable.rpartition("/")[2]
    known = _RUNTIMES.get(name) or _RUNTIMES.get(_VERSION.sub("", name))
    if known or not executable:
        return known or ""
    return "go" if _GO_NOTE in _read(folder, "exe", limit=4096) else ""


def _read(folder: int, name: str, *, limit: int = _MAX_BYTES) -> bytes:
    """The file's bytes, or as many as could be read."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return b""
    parts: list[bytes] = []
    try:
        while limit > 0 and (part := os.read(file, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
    except OSError:
        pass  # it ended while it was read: what is there is there
    finally:
        os.close(file)
    return b"".join(parts)
