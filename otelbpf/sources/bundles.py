"""What containerd and CRI-O leave beside a running container: the OCI bundle's config.json, whose annotations tell the
pod, the container's name and its image. No socket is needed for it.

https://github.com/opencontainers/runtime-spec/blob/main/bundle.md; the names of the annotations are those of
containerd's internal/cri/annotations, of CRI-O's pkg/annotations and of nerdctl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

_PLACES: Final = (
    "run/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "run/k3s/containerd/io.containerd.runtime.v2.task/*/{id}/config.json",
    "run/containers/storage/overlay-containers/{id}/userdata/config.json",
)
_MAX_BYTES: Final = 1 << 20
# By attribute, the annotations that tell it; image references are taken apart elsewhere.
_ANNOTATIONS: Final[dict[str, tuple[str, ...]]] = {
    "container.name": ("nerdctl/name",),
    "k8s.container.name": ("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
    "k8s.pod.name": ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"),
    "k8s.pod.uid": ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
    "k8s.namespace.name": ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"),
    "image": ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"),
}


class _Bundle(msgspec.Struct, frozen=True):
    annotations: dict[str, str] | None = None


def read_bundle(root: Path, container_id: str) -> dict[str, str]:
    """Attributes of the container, and under `image` the reference of its image; empty where there is no bundle."""
    for path in _found(root, container_id):
        try:
            with path.open("rb") as file:
                annotations = msgspec.json.decode(file.read(_MAX_BYTES), type=_Bundle).annotations or {}
        except (OSError, msgspec.MsgspecError):
            continue  # it went away, or is none
        if told := dict(_told(annotations)):
            return told
    return {}


def _found(root: Path, container_id: str) -> Iterator[Path]:
    for place in _PLACES:
        try:
            yield from sorted(root.glob(place.format(id=container_id)))
        except OSError:
            continue  # not to be listed


def _told(annotations: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, sources in _ANNOTATIONS.items():
        value = next((annotations[source] for source in sources if annotations.get(source)), "")
        if value:
            yield name, value
