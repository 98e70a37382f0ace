"""The machine the collector runs on."""

from __future__ import annotations

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


def describe_host(root: Path = Path("/"), *, machine: str | None = None) -> Host:
    """Name, id, architecture and operating system; empty where it cannot be read."""
    release = _text(root / "etc/os-release") or _text(root / "usr/lib/os-release")
    version = _VERSION.search(release)
    return Host(
        name=socket.gethostname(),
        id=_text(root / "etc/machine-id").strip() or _text(root / "var/lib/dbus/machine-id").strip(),
        arch=_architecture(platform.machine() if machine is None else machine),
        os_version=version[1] if version else "",
    )


def _architecture(machine: str) -> str:
    return "arm32" if _ARM32.match(machine) else _ARCHITECTURES.get(machine, machine)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
