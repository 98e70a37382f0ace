"""User names by number, from /etc/passwd alone: the name services (nsswitch.conf) may ask a network, and wait."""

from __future__ import annotations

from pathlib import Path


class Users:
    """The users of this host; read again when the file changes."""

    def __init__(self, path: Path = Path("/etc/passwd")) -> None:
        self._path = path
        self._read_at = (0, 0)
        self._names: dict[int, str] = {}

    def name(self, number: int) -> str:
        """A user's name, or the number where it has none."""
        try:
            status = self._path.stat()
            if (status.st_mtime_ns, status.st_ino) != self._read_at:
                self._names = _parse(self._path.read_text("utf-8", "replace"))
                self._read_at = (status.st_mtime_ns, status.st_ino)
        except OSError:
            self._names = {}
        return self._names.get(number) or str(number)


def _parse(text: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdecimal():
            names.setdefault(int(fields[2]), fields[0])
    return names
