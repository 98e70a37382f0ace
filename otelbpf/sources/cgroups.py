"""cgroup v2: a folder's id, which is what the kernel says of a task."""

from __future__ import annotations

from pathlib import Path

from otelbpf.errors import ConfigError


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
