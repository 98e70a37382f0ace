"""Who waits for connections on this host when the probes are attached: told then, so that a user sees that they see
something; and remembered, for a service may end a moment after its first request.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in the column `st` of proc_net_tcp(5)"""


def find_services(
    proc: Path = Path("/proc"), *, but: int = 0, ports: Collection[int] = (), pids: Collection[int] = ()
) -> list[int]:
    """The processes that listen for TCP, at one of `ports` and among `pids` where these are given: of those that share
    a listening socket (a master and its workers) the oldest, process `but` never. Sockets whose owner may not be read
    are nobody's; processes that end meanwhile are passed over."""
    unclaimed = _inodes(proc, listening=True, ports=ports)
    owners = []
    for pid in _pids(proc):  # in ascending order: a socket's oldest holder is its service
        if not unclaimed:
            break
        if pids and pid not in pids:
            continue
        held = unclaimed.intersection(_socket_inodes(proc / str(pid) / "fd"))
        if held:
            owners += [pid] if pid != but else []
            unclaimed -= held
    return owners


def find_speakers(proc: Path = Path("/proc")) -> list[int]:
    """The processes that have a TCP socket, listening or connected."""
    inodes = _inodes(proc, listening=False)
    return [pid for pid in _pids(proc) if not inodes.isdisjoint(_socket_inodes(proc / str(pid) / "fd"))]


def _inodes(proc: Path, *, listening: bool, ports: Collection[int] = ()) -> set[str]:
    """Inode numbers of the sockets, or the `listening` ones, or those at `ports`, in every network namespace that has
    a process."""
    inodes: set[str] = set()
    namespaces: set[str] = set()
    for pid in _pids(proc):
        try:
            namespace = os.readlink(proc / str(pid) / "ns" / "net")
        except OSError:
            continue
        if namespace in namespaces:
            continue
        namespaces.add(namespace)
        for name in ("tcp", "tcp6"):
            inodes.update(_inodes_in(proc / str(pid) / "net" / name, listening=listening, ports=ports))
    return inodes


def _inodes_in(table: Path, *, listening: bool, ports: Collection[int]) -> Iterator[str]:
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return
    for line in lines[1:]:
        fields = line.split()
        if len(fields) <= 9 or (listening and fields[3] != _LISTEN):
            continue
        if not ports or int(fields[1].rpartition(":")[2], 16) in ports:
            yield fields[9]


def _socket_inodes(folder: Path) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _pids(proc: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(proc) if name.isdecimal())
    except OSError:
        return []
