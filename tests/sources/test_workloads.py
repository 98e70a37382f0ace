"""Who is asked about a container, how often, and what is made of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from otelbpf.sources.docker import Inspected
from otelbpf.sources.workloads import MAX_CONTAINERS, PAUSE_SECONDS, Workloads, image_attributes

ID = "0123456789abcdef" * 4
UID = "1f2e3d4c-0000-1111-2222-333344445555"
DOCKER, PODMAN = "/run/docker.sock", "/run/podman/podman.sock"
WEB = msgspec.convert(
    {
        "Name": "/shop-web-1",
        "Image": "sha256:5f0a",
        "Config": {"Image": "shop/web:1.2", "Labels": {"com.docker.compose.service": "web", "secret": "x"}},
    },
    Inspected,
)


class Engines:
    """What each engine answers, and who was asked."""

    def __init__(self, answers: dict[str, Inspected | OSError | None], root: Path) -> None:
        self.answers = {str(root / path.lstrip("/")): answer for path, answer in answers.items()}
        self.asked: list[str] = []

    def __call__(self, path: str, container_id: str) -> Inspected | None:
        self.asked.append(path.rpartition("/")[2])
        answer = self.answers.get(path, FileNotFoundError(path))
        if isinstance(answer, OSError):
            raise answer
        return answer


class Pods:
    """A Kubernetes API that knows one pod."""

    def __init__(self, answer: dict[str, str] | OSError) -> None:
        self.answer = answer
        self.asked = 0

    def attributes(self, pod_uid: str, container_id: str) -> dict[str, str]:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return dict(self.answer) if pod_uid == UID else {}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_docker_names_a_container(tmp_path: Path) -> None:
    """Name, image, and of the labels those asked for; one question a container."""
    engines = Engines({DOCKER: WEB}, tmp_path)
    workloads = Workloads(
        sockets=(PODMAN, DOCKER), labels=("com.docker.compose.service", "none"), root=tmp_path, ask=engines
    )
    for _ in range(3):
        assert workloads.of(ID) == {
            "container.name": "shop-web-1",
            "container.image.id": "sha256:5f0a",
            "container.image.name": "shop/web",
            "container.image.tags": "1.2",
            "container.label.com.docker.compose.service": "web",
        }
    assert engines.asked == ["podman.sock", "docker.sock"]


def test_what_is_no_container_is_asked_of_nobody(tmp_path: Path) -> None:
    """Most processes of a host."""
    engines = Engines({DOCKER: WEB}, tmp_path)
    assert Workloads(sockets=(DOCKER,), root=tmp_path, ask=engines).of("") == {}
    assert engines.asked == []


def test_an_engine_that_hangs_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """The next one is asked all the same; then it answers."""
    clock = Clock()
    engines = Engines({DOCKER: TimeoutError("timed out"), PODMAN: None}, tmp_path)
    workloads = Workloads(sockets=(DOCKER, PODMAN), root=tmp_path, ask=engines, clock=clock)
    for _ in range(3):
        assert workloads.of(ID) == {}
    assert engines.asked == ["docker.sock", "podman.sock", "podman.sock", "podman.sock"]

    engines.answers[str(tmp_path / DOCKER[1:])] = WEB
    clock.now = PAUSE_SECONDS
    assert workloads.of(ID)["container.name"] == "shop-web-1"


def test_a_pod_is_told_by_kubernetes_and_by_the_bundle(tmp_path: Path) -> None:
    """The bundle knows the container's name at once, the API who owns the pod. No engine is asked."""
    bundle = tmp_path / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text(
        json.dumps(
            {
                "annotations": {
                    "io.kubernetes.cri.container-name": "web",
                    "io.kubernetes.cri.sandbox-name": "shop-1",
                    "io.kubernetes.cri.image-name": "registry:5000/shop/web",
                }
            }
        )
    )
    engines = Engines({DOCKER: WEB}, tmp_path)
    pods = Pods({"k8s.pod.name": "shop-1", "k8s.deployment.name": "shop"})
    workloads = Workloads(sockets=(DOCKER,), pods=pods, root=tmp_path, ask=engines)
    for _ in range(2):
        assert workloads.of(ID, UID) == {
            "k8s.container.name": "web",
            "k8s.pod.name": "shop-1",
            "k8s.deployment.name": "shop",
            "container.image.name": "registry:5000/shop/web",
        }
    assert (engines.asked, pods.asked) == ([], 1)


def test_an_api_that_does_not_answer_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """Records wait meanwhile."""
    clock = Clock()
    pods = Pods(TimeoutError("timed out"))
    workloads = Workloads(pods=pods, root=tmp_path, clock=clock)
    for _ in range(5):
        assert workloads.of(ID, UID) == {}
    assert pods.asked == 1
    clock.now = PAUSE_SECONDS
    assert workloads.of(ID, UID) == {}
    assert pods.asked == 2


def test_containers_are_remembered_in_bounded_number(tmp_path: Path) -> None:
    """The one known the longest goes first."""
    engines = Engines({DOCKER: WEB}, tmp_path)
    workloads = Workloads(sockets=(DOCKER,), root=tmp_path, ask=engines)
    for number in range(MAX_CONTAINERS + 1):
        workloads.of(f"{number:064x}")
    assert len(engines.asked) == MAX_CONTAINERS + 1
    workloads.of(f"{MAX_CONTAINERS:064x}")
    assert len(engines.asked) == MAX_CONTAINERS + 1
    workloads.of(f"{0:064x}")
    assert len(engines.asked) == MAX_CONTAINERS + 2


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("nginx", "nginx", ""),
        ("nginx:1.27", "nginx", "1.27"),
        ("registry:5000/a/b", "registry:5000/a/b", ""),
        ("registry:5000/a/b:v1", "registry:5000/a/b", "v1"),
        ("a/b@sha256:12", "a/b", ""),
        ("a/b:v1@sha256:12", "a/b", "v1"),
        ("sha256:12", None, None),
        ("", None, None),
    ],
)
def test_image_references(reference: str, name: str | None, tag: str | None) -> None:
    """Name and tag; a digest is neither."""
    expected = {} if name is None else {"container.image.name": name, "container.image.tags": tag}
    assert image_attributes(reference) == expected
