"""The Kubernetes API as recorded, served over TLS by a server that checks what it is asked."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from otelbpf.sources.kubernetes import Kubernetes, in_cluster

WEB, SIDECAR, JOB = (f"{number:064x}" for number in (1, 2, 3))
SHOP = "1f2e3d4c-0000-1111-2222-333344445555"
NIGHTLY = "2f2e3d4c-0000-1111-2222-333344445555"
STATIC, STATIC_HASH = "3f2e3d4c-0000-1111-2222-333344445555", "5bb0ef24b9b0f7a9a8c3c1e2d3f4a5b6"
TOKEN = "a-token"

PODS: dict[str, Any] = {
    "kind": "PodList",
    "apiVersion": "v1",
    "metadata": {"resourceVersion": "12345"},
    "items": [
        {
            "metadata": {
                "name": "shop-7d9f8c6b5d-abcde",
                "generateName": "shop-7d9f8c6b5d-",
                "namespace": "prod",
                "uid": SHOP,
                "labels": {
                    "pod-template-hash": "7d9f8c6b5d",
                    "app.kubernetes.io/name": "shop",
                    "app.kubernetes.io/instance": "shop-eu",
                    "app.kubernetes.io/version": "1.2",
                },
                "annotations": {"resource.opentelemetry.io/team": "checkout", "kubectl.kubernetes.io/x": "y"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d9f8c6b5d", "controller": True}
                ],
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [{"name": "web", "image": "shop/web:1.2"}, {"name": "proxy", "image": "envoy:1.30"}],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {"name": "proxy", "containerID": f"containerd://{SIDECAR}", "image": "envoy:1.30"},
                    {"name": "web", "containerID": f"containerd://{WEB}", "image": "shop/web:1.2"},
                ],
            },
        },
        {
            "metadata": {
                "name": "nightly-29401200-x7z2p",
                "namespace": "batch",
                "uid": NIGHTLY,
                "annotations": {"resource.opentelemetry.io/service.name": "reports"},
                "ownerReferences": [{"kind": "Job", "name": "nightly-29401200", "controller": True}],
            },
            "spec": {"nodeName": "node-1", "containers": [{"name": "job", "image": "jobs:3"}]},
            "status": {"containerStatuses": [{"name": "job", "containerID": ""}]},
        },
        {
            "metadata": {
                "name": "etcd-node-1",
                "namespace": "kube-system",
                "uid": STATIC,
                "annotations": {"kubernetes.io/config.hash": STATIC_HASH},
                "ownerReferences": [{"kind": "Node", "name": "node-1", "controller": True}],
            },
            "spec": {"nodeName": "node-1", "containers": [{"name": "etcd", "image": "etcd:3.5"}]},
            "status": {},
        },
    ],
}
SHOP_TOLD = {
    "k8s.pod.name": "shop-7d9f8c6b5d-abcde",
    "k8s.pod.uid": SHOP,
    "k8s.namespace.name": "prod",
    "k8s.node.name": "node-1",
    "k8s.replicaset.name": "shop-7d9f8c6b5d",
    "k8s.deployment.name": "shop",
    "service.namespace": "prod",
    "team": "checkout",
}


class Api:
    """The server, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.status, self.body = 200, json.dumps(PODS).encode()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.crt")
        (folder / "token").write_text(TOKEN + "\n")
        api = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append(self.path)
                allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
                self.send_response(api.status if allowed else 401)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody listens."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.address = ("127.0.0.1", self.server.server_address[1])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    api = Api(tmp_path)
    yield api
    api.server.shutdown()
    api.server.server_close()


def test_a_pod_of_a_deployment(api: Api, tmp_path: Path) -> None:
    """Which of its containers it is, the status tells; one list serves all."""
    kubernetes = Kubernetes(api.address, "node-1", account=tmp_path)

    assert kubernetes.attributes(SHOP, WEB) == SHOP_TOLD | {"k8s.container.name": "web", "image": "shop/web:1.2"}
    assert kubernetes.attributes(SHOP, SIDECAR) == SHOP_TOLD | {"k8s.container.name": "proxy", "image": "envoy:1.30"}
    assert kubernetes.attributes(SHOP, JOB) == SHOP_TOLD
    assert api.asked == ["/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1"]


def test_a_job_of_a_cron_job_before_its_status_is_told(api: Api, tmp_path: Path) -> None:
    """Of a pod's only container there is no doubt; the annotation names the service."""
    told = Kubernetes(api.address, "node-1", account=tmp_path).attributes(NIGHTLY, JOB)
    assert told == {
        "k8s.pod.name": "nightly-29401200-x7z2p",
        "k8s.pod.uid": NIGHTLY,
        "k8s.namespace.name": "batch",
        "k8s.node.name": "node-1",
        "k8s.job.name": "nightly-29401200",
        "k8s.cronjob.name": "nightly",
        "k8s.container.name": "job",
        "image": "jobs:3",
        "service.namespace": "batch",
        "service.name": "reports",
    }


def test_a_static_pod_is_found_by_the_hash_of_its_file(api: Api, tmp_path: Path) -> None:
    """So its control group calls it."""
    told = Kubernetes(api.address, "node-1", account=tmp_path).attributes(STATIC_HASH, JOB)
    assert (told["k8s.pod.name"], told["k8s.pod.uid"]) == ("etcd-node-1", STATIC)
    assert "k8s.deployment.name" not in told


def test_well_known_labels_only_where_asked_for(api: Api, tmp_path: Path) -> None:
    """The conventions want it so."""
    told = Kubernetes(api.address, "node-1", account=tmp_path, well_known_labels=True).attributes(SHOP, WEB)
    assert (told["service.name"], told["service.version"]) == ("shop-eu", "1.2")


def test_pods_nobody_knows_do_not_flood_the_api(api: Api, tmp_path: Path) -> None:
    """Ten lists at once, then one each three seconds."""
    now = [0.0]
    kubernetes = Kubernetes(api.address, "node-1", account=tmp_path, clock=lambda: now[0])
    for number in range(50):
        assert kubernetes.attributes(f"{number:08x}-0000-0000-0000-000000000000", WEB) == {}
    assert len(api.asked) == 10
    now[0] = 3.0
    for number in range(50, 60):
        kubernetes.attributes(f"{number:08x}-0000-0000-0000-000000000000", WEB)
    assert len(api.asked) == 11


@pytest.mark.parametrize(
    ("status", "body", "why"), [(403, b"{}", "answers 403"), (200, b"<html>", "understood"), (200, b"[]", "understood")]
)
def test_an_api_that_refuses(status: int, body: bytes, why: str, api: Api, tmp_path: Path) -> None:
    """Or is none."""
    api.status, api.body = status, body
    with pytest.raises(OSError, match=why):
        Kubernetes(api.address, "node-1", account=tmp_path).attributes(SHOP, WEB)


def test_a_server_the_account_does_not_vouch_for(api: Api, tmp_path: Path) -> None:
    """The token is not shown to it."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    with pytest.raises(OSError, match="certificate"):
        Kubernetes(api.address, "node-1", account=tmp_path).attributes(SHOP, WEB)
    assert api.asked == []


def test_where_the_api_is(tmp_path: Path) -> None:
    """Only in a pod, and one that has an account."""
    there = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(there, tmp_path) is None
    (tmp_path / "token").write_text(TOKEN)
    assert in_cluster(there, tmp_path) == ("10.0.0.1", 443)
    assert in_cluster({}, tmp_path) is None
    assert in_cluster({**there, "KUBERNETES_SERVICE_PORT": "x"}, tmp_path) is None
