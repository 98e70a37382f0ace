"""What the path of a control group tells: the container, the pod, the systemd unit.

Container runtimes name a container's group after its id; systemd names a service's group after its unit. Paths as they
are met, in cgroup v2 (and below the controllers of v1):

    /system.slice/nginx.service
    /user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service
    /system.slice/docker-<id>.scope                                     docker, systemd driver
    /docker/<id>                                                        docker, cgroupfs driver
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope
    /kubepods/burstable/pod<uid>/<id>
    /machine.slice/libpod-<id>.scope/container                          podman
    /ecs/<task>/<task>-<number>                                         AWS Fargate
"""

from __future__ import annotations

import re
from typing import Final

_CONTAINER: Final = re.compile(r"(?:.*[-:])?([0-9a-f]{64}|[0-9a-f]{32}-[0-9]{8,12})(?:\.scope)?")
_POD: Final = re.compile(r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice.*)?")
_ESCAPED: Final = re.compile(r"\\x([0-9a-f]{2})")


def read_cgroup(text: str) -> tuple[str, str]:
    """Container id and systemd unit (without .service) that /proc/PID/cgroup (cgroups(7)) tells; empty where none."""
    paths = _paths(text)
    container = next((found for path in paths for found in [_container_of(path)] if found), "")
    unit = next((found for path in paths for found in [_unit_of(path)] if found), "")
    return container, unit


def read_pod(text: str) -> str:
    """The uid of the Kubernetes pod that /proc/PID/cgroup tells, as the API writes it; empty where none."""
    for path in _paths(text):
        for part in path:
            if match := _POD.fullmatch(part):
                return match[1].replace("_", "-")
    return ""


def _paths(text: str) -> list[list[str]]:
    """The parts of each path: that of the unified hierarchy first, then systemd's own, then the controllers'."""
    ranked = []
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        rank = 0 if number == "0" else 1 if controllers == "name=systemd" else 2
        ranked.append((rank, path.split("/")))
    return [path for _, path in sorted(ranked, key=lambda entry: entry[0])]


def _container_of(path: list[str]) -> str:
    """The innermost container."""
    for part in reversed(path):
        match = _CONTAINER.fullmatch(part)
        # conmon watches over a container and is not in it.
        if match is not None and "conmon" not in part:
            return match[1]
    return ""


def _unit_of(path: list[str]) -> str:
    """The innermost service: inside a container only one that the container runs itself, not what runs containers."""
    for part in reversed(path):
        if _CONTAINER.fullmatch(part) is not None:
            return ""
        if part.endswith(".service"):
            name = part.removesuffix(".service")
            # user@1000.service holds all that a user runs, sessions too.
            return "" if re.fullmatch(r"user@[0-9]+", name) else _ESCAPED.sub(lambda hit: chr(int(hit[1], 16)), name)
    return ""
