"""The machine the collector runs on; from within a container that sees the host's processes, the host."""

from __future__ import annotations

import os
import platform
import re
import socket
from pathlib import Path
from typing import Final

from otelbpf.events.types import Host

# uname's words to those of the attribute host.arch.
_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "x86",
    "i486": "x86",
    "i586": "x86",
    "i686": "x86",
    "ppc": "ppc32",
    "ppc64le": "ppc64",
}
_ARM32: Final = re.compile(r"armv[5-8]")
_VERSION: Final = re.compile(r"^VERSION_ID=[\"']?([^\"'\n]*)", re.MULTILINE)
_MAX_LINKS: Final = 8
_OWN_ROOT: Final = Path("/")
_NOWHERE: Final = Path("/nonexistent")


def host_root(proc: Path = Path("/proc")) -> Path:
    """Where the host's files are: at the first process's root, or at our own where that may not be looked into."""
    root = proc / "1" / "root"
    try:
        (root / "etc").stat()
    except OSError:
        return _OWN_ROOT
    return root


def describe_host(root: Path | None = None, *, machine: str | None = None, proc: Path = Path("/proc")) -> Host:
    """Name, id, architecture and operating system; empty where it cannot be read. `root` is where the host's files
    are, unless they are to be found."""
    root = host_root(proc) if root is None else root
    if root == _OWN_ROOT and _is_layered(proc):
        root = _NOWHERE
    release = _text(root, "etc/os-release") or _text(root, "usr/lib/os-release")
    version = _VERSION.search(release)
    return Host(
        name=_name(root, proc),
        id=_text(root, "etc/machine-id").strip() or _text(root, "var/lib/dbus/machine-id").strip(),
        arch=_architecture(platform.machine() if machine is None else machine),
        os_version=version[1] if version else "",
    )


def _is_layered(proc: Path) -> bool:
    """Whether our root is that of an image, most likely, and its files tell nothing of the host."""
    try:
        mounts = (proc / "self" / "mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    return any(fields[4] == "/" and "overlay" in fields[-3:] for fields in map(str.split, mounts) if len(fields) > 6)


def _name(root: Path, proc: Path) -> str:
    """A container has a name of its own (uts_namespaces(7)), and the host's is then read from its file."""
    try:
        ours = os.path.samefile(proc / "self" / "ns" / "uts", proc / "1" / "ns" / "uts")
    except OSError:
        ours = True
    return ("" if ours else _text(root, "etc/hostname").strip()) or socket.gethostname()


def _architecture(machine: str) -> str:
    return "arm32" if _ARM32.match(machine) else _ARCHITECTURES.get(machine, machine)


def _text(root: Path, name: str) -> str:
    """A file's text. The kernel takes an absolute link for one from our own root, so these are followed here."""
    path = root / name
    try:
        for _ in range(_MAX_LINKS):
            if not path.is_symlink():
                return path.read_text("utf-8", "replace")
            target = os.readlink(path)
            path = root / target.lstrip("/") if target.startswith("/") else path.parent / target
    except OSError:
        pass
    return ""
