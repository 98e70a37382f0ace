"""Another Debian beside the host's: its programs with the libraries they were built for, on the kernel that runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from integration.harness.docker import run
from integration.harness.processes import CACHE
from integration.harness.programs import tool

SECONDS = 600.0
SUITE = "trixie"
PACKAGES = ("nginx-light", "curl", "python3")
_ENTER = 'for folder in proc dev "$1"; do mount --rbind "/$folder" "$0/$folder"; done; shift; exec chroot "$0" "$@"'


def debian_13() -> Path:
    """A folder with nginx, curl and Python, made once: their OpenSSL can leave encryption to the kernel, which that of
    Debian 12 cannot."""
    made = CACHE / "systems" / "-".join((SUITE, *PACKAGES))
    if not made.exists():
        new = made.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        command = [tool("debootstrap", "debootstrap", "/usr/sbin/debootstrap"), "--variant=minbase"]
        run([*command, f"--include={','.join(PACKAGES)}", SUITE, new], environment=os.environ, seconds=SECONDS)
        new.rename(made)
    return made


def inside(system: Path) -> list[str | Path]:
    """The words before a command that runs it there, as the same process; temporary files are those of the host."""
    temporary = tempfile.gettempdir().removeprefix("/")
    return ["unshare", "--mount", "sh", "-c", _ENTER, system, temporary]
