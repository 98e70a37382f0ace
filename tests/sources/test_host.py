"""The host is described by its own files, from within a container, too; what cannot be known of it stays empty."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from otelbpf.events.types import Host
from otelbpf.sources.host import describe_host, host_root


@pytest.mark.parametrize(
    ("machine", "arch"),
    [
        ("x86_64", "amd64"),
        ("aarch64", "arm64"),
        ("armv7l", "arm32"),
        ("i686", "x86"),
        ("ppc64le", "ppc64"),
        ("s390x", "s390x"),
        ("riscv64", "riscv64"),
    ],
)
def test_the_host(tmp_path: Path, machine: str, arch: str) -> None:
    """The conventions' names of architectures; id and version from their files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "machine-id").write_text("0123\n")
    (tmp_path / "etc" / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')

    assert describe_host(tmp_path, machine=machine) == Host(
        name=socket.gethostname(), id="0123", arch=arch, os_version="12"
    )


def test_a_host_without_files(tmp_path: Path) -> None:
    """Empty, not an error."""
    assert describe_host(tmp_path, machine="x86_64") == Host(name=socket.gethostname(), arch="amd64")


def test_a_host_with_its_files_elsewhere(tmp_path: Path) -> None:
    """The older and the vendor's places."""
    (tmp_path / "var/lib/dbus").mkdir(parents=True)
    (tmp_path / "var/lib/dbus/machine-id").write_text("4567\n")
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("VERSION_ID=40\n")

    host = describe_host(tmp_path)

    assert (host.id, host.os_version) == ("4567", "40")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """/proc in a container with an overlay for its root, whose first process is the host's, in a system of its own."""
    proc = tmp_path / "proc"
    for pid in ("1", "self"):
        (proc / pid / "ns").mkdir(parents=True)
        (proc / pid / "ns" / "uts").write_text(pid)
    (proc / "self" / "mountinfo").write_text("731 612 0:55 / / ro,relatime - overlay overlay ro,lowerdir=/a\n")
    return proc


def lay_root(proc: Path) -> Path:
    """The first process's root."""
    etc = proc / "1" / "root" / "etc"
    etc.mkdir(parents=True)
    (etc / "machine-id").write_text("89ab\n")
    (etc / "os-release").write_text("VERSION_ID=42\n")
    (etc / "hostname").write_text("node-7\n")
    return etc


def test_the_host_of_a_container(proc: Path) -> None:
    """The image's own files and the container's own name are nobody's business."""
    lay_root(proc)

    assert host_root(proc) == proc / "1" / "root"
    assert describe_host(machine="x86_64", proc=proc) == Host(name="node-7", id="89ab", arch="amd64", os_version="42")


def test_a_container_with_the_host_s_name(proc: Path) -> None:
    """The kernel knows it better than a file."""
    lay_root(proc)
    (proc / "self/ns/uts").unlink()
    (proc / "self/ns/uts").hardlink_to(proc / "1/ns/uts")

    assert describe_host(proc=proc).name == socket.gethostname()


def test_links_of_the_host_lead_to_its_own_files(proc: Path) -> None:
    """Absolute and relative ones; one that leads nowhere, or in a circle, tells nothing."""
    etc = lay_root(proc)
    (etc / "static").mkdir()
    (etc / "static" / "release").write_text("VERSION_ID=43\n")
    (etc / "os-release").unlink()
    (etc / "os-release").symlink_to("/etc/next")
    (etc / "next").symlink_to("static/release")
    (etc / "machine-id").unlink()
    (etc / "machine-id").symlink_to("machine-id")

    host = describe_host(proc=proc)

    assert (host.os_version, host.id) == ("43", "")


def test_a_container_that_may_not_look_at_the_host(proc: Path) -> None:
    """Its image's version would be a wrong one."""
    assert host_root(proc) == Path("/")
    assert describe_host(machine="x86_64", proc=proc) == Host(name=socket.gethostname(), arch="amd64")
