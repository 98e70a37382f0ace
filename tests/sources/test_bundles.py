"""Bundles as containerd, CRI-O and nerdctl leave them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otelbpf.sources.bundles import read_bundle

ID = "0123456789abcdef" * 4
CONTAINERD = f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"
UID = "1f2e3d4c-0000-1111-2222-333344445555"


def put(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text(content)


@pytest.mark.parametrize(
    ("path", "annotations", "told"),
    [
        (
            CONTAINERD,
            {
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.container-name": "web",
                "io.kubernetes.cri.sandbox-name": "shop-7d9f-abcde",
                "io.kubernetes.cri.sandbox-namespace": "prod",
                "io.kubernetes.cri.sandbox-uid": UID,
                "io.kubernetes.cri.image-name": "registry:5000/shop/web:1.2",
            },
            {
                "k8s.container.name": "web",
                "k8s.pod.name": "shop-7d9f-abcde",
                "k8s.namespace.name": "prod",
                "k8s.pod.uid": UID,
                "image": "registry:5000/shop/web:1.2",
            },
        ),
        (
            f"run/containers/storage/overlay-containers/{ID}/userdata/config.json",
            {
                "io.kubernetes.container.name": "web",
                "io.kubernetes.pod.name": "shop-0",
                "io.kubernetes.pod.namespace": "prod",
                "io.kubernetes.pod.uid": UID,
                "io.kubernetes.cri-o.ImageName": "shop/web:1.2",
            },
            {
                "k8s.container.name": "web",
                "k8s.pod.name": "shop-0",
                "k8s.namespace.name": "prod",
                "k8s.pod.uid": UID,
                "image": "shop/web:1.2",
            },
        ),
        (
            f"run/containerd/io.containerd.runtime.v2.task/default/{ID}/config.json",
            {"nerdctl/name": "web", "nerdctl/namespace": "default"},
            {"container.name": "web"},
        ),
    ],
)
def test_what_annotations_tell(path: str, annotations: dict[str, str], told: dict[str, str], tmp_path: Path) -> None:
    """Each runtime's own names."""
    put(tmp_path, path, json.dumps({"ociVersion": "1.1.0", "process": {"env": ["A=b"]}, "annotations": annotations}))
    assert read_bundle(tmp_path, ID) == told


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"annotations": null}', '{"annotations": {"a": 1}}'])
def test_a_bundle_that_tells_nothing(content: str, tmp_path: Path) -> None:
    """Nor raises."""
    put(tmp_path, CONTAINERD, content)
    assert read_bundle(tmp_path, ID) == {}


def test_no_bundle(tmp_path: Path) -> None:
    """Of a container that is gone, or where no runtime is."""
    assert read_bundle(tmp_path, ID) == {}
