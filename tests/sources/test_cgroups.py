"""Ids of cgroups, against the hierarchy of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbpf.sources.cgroups import cgroup_id, cgroup_path, cgroup_root


@pytest.fixture
def root() -> Path:
    """Where the hierarchy is mounted; reading a folder by its id takes rights that not everybody has."""
    found = cgroup_root()
    if found is None:
        pytest.skip("needs a cgroup v2 hierarchy")
    return found


def test_an_id_leads_back_to_its_folder(root: Path) -> None:
    """To the empty path where it may not be asked for; never to another one."""
    for folder in [child for child in sorted(root.iterdir()) if child.is_dir()][:20]:
        assert cgroup_path(cgroup_id(str(folder))) in (f"/{folder.name}", "")


def test_an_id_of_no_folder() -> None:
    """Whatever is asked for."""
    assert cgroup_path(1 << 62) == ""
