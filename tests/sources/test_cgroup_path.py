"""Paths of control groups as container runtimes and systemd make them."""

from __future__ import annotations

import pytest

from otelbpf.sources.cgroup_path import read_cgroup, read_pod

ID = "0123456789abcdef" * 4
POD = "1f2e3d4c_0000_1111_2222_333344445555"


@pytest.mark.parametrize(
    ("path", "container", "unit"),
    [
        ("/", "", ""),
        ("/init.scope", "", ""),
        ("/system.slice/nginx.service", "", "nginx"),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "", "postgresql@15-main"),
        ("/system.slice/my\\x2dapp.service", "", "my-app"),
        ("/system.slice/gunicorn.service/worker-3", "", "gunicorn"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service", "", "syncthing"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "", ""),
        ("/user.slice/user-1000.slice/user@1000.service", "", ""),
        ("/user.slice/user-1000.slice/session-3.scope", "", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope", "", ""),
        (f"/system.slice/docker-{ID}.scope", ID, ""),
        (f"/docker/{ID}", ID, ""),
        (f"/docker/{ID}/system.slice/nginx.service", ID, "nginx"),
        (f"/docker/{ID}/init.scope", ID, ""),
        (f"/../../docker-{ID}.scope", ID, ""),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{POD}.slice:cri-containerd:{ID}", ID, ""),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{ID}.scope",
            ID,
            "",
        ),
        (f"/kubepods.slice/kubepods-pod{POD}.slice/crio-{ID}.scope", ID, ""),
        (f"/kubepods.slice/kubepods-pod{POD}.slice/crio-conmon-{ID}.scope", "", ""),
        (f"/kubepods/besteffort/pod{POD}/{ID}", ID, ""),
        (f"/machine.slice/libpod-{ID}.scope/container", ID, ""),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "", ""),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container", ID, ""),
        (f"/docker/{'a' * 64}/kubepods/pod{POD}/{ID}", ID, ""),
        ("/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890", None, ""),
        (f"/system.slice/docker-{ID[:-1]}.scope", "", ""),
        ("/system.slice/docker.service", "", "docker"),
    ],
)
def test_paths(path: str, container: str | None, unit: str) -> None:
    """In the unified hierarchy, and below a controller of the old one."""
    expected = ("0123456789abcdef0123456789abcdef-1234567890" if container is None else container, unit)

    assert read_cgroup(f"0::{path}\n") == expected
    assert read_cgroup(f"12:pids:{path}\n3:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n") == expected


def test_systemds_own_hierarchy_tells_the_unit() -> None:
    """Controllers may group processes otherwise."""
    text = "4:memory:/system.slice/other.service\n1:name=systemd:/system.slice/nginx.service\n0::/\n"

    assert read_cgroup(text) == ("", "nginx")


@pytest.mark.parametrize("text", ["", "\n", "0", "0::", "garbage\n::\n:::\n"])
def test_what_is_no_cgroup_file(text: str) -> None:
    """Nothing, rather than an error."""
    assert read_cgroup(text) == ("", "")


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{ID}.scope", POD),
        (f"/kubepods.slice/kubepods-pod{POD}.slice/crio-{ID}.scope", POD),
        (f"/kubepods/besteffort/pod{POD.replace('_', '-')}/{ID}", POD),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{POD}.slice:cri-containerd:{ID}", POD),
        (f"/kubepods/burstable/pod{ID[:32]}/{ID}", ID[:32]),
        (f"/system.slice/docker-{ID}.scope", ""),
        (f"/machine.slice/libpod-{ID}.scope", ""),
        (f"/libpod_parent/libpod-{ID[:32]}", ""),
        ("/system.slice/podman.service", ""),
    ],
)
def test_pods(path: str, uid: str) -> None:
    """As the API writes their uids; those of static pods are hashes."""
    assert read_pod(f"0::{path}\n") == uid.replace("_", "-")
