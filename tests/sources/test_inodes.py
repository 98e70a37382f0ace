"""Which inode a file has; overlays are mounted in integration/test_containers.py."""

from __future__ import annotations

import os
from pathlib import Path

from otelbpf.sources.inodes import inode_of


def test_names_of_one_file_are_one_and_copies_are_not(tmp_path: Path) -> None:
    """Whatever the name, and when that is gone."""
    first, second, copy = tmp_path / "first", tmp_path / "second", tmp_path / "copy"
    first.write_bytes(b"library")
    copy.write_bytes(b"library")
    os.link(first, second)
    with open(first, "rb") as one, open(second, "rb") as other, open(copy, "rb") as another:
        first.unlink()
        assert inode_of(one.fileno()) == inode_of(other.fileno())
        assert inode_of(one.fileno()) != inode_of(another.fileno())
