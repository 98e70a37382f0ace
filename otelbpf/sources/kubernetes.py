"""What the Kubernetes API says of the pods of this node (GET /api/v1/pods?fieldSelector=spec.nodeName=NODE).

A pod is known to the API before its first container starts, so a list taken when a pod is met for the first time names
it. The service account needs `list` on pods and nothing else. Attributes are those of
https://opentelemetry.io/docs/specs/semconv/resource/k8s/ and, from annotations and labels,
https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS: Final = 1.0
"""Records wait in the ring meanwhile."""
_MAX_BYTES: Final = 64 << 20
_LISTS: Final = 10
_SECONDS_A_LIST: Final = 3.0
"""So many lists may be taken at once, and one more each so many seconds: pods nobody knows are not to flood the API."""
_ANNOTATION: Final = "resource.opentelemetry.io/"
_OWNERS: Final = {
    "ReplicaSet": "k8s.replicaset.name",
    "StatefulSet": "k8s.statefulset.name",
    "DaemonSet": "k8s.daemonset.name",
    "Job": "k8s.job.name",
}
_SCHEDULED: Final = re.compile(r"(.+)-[0-9]{8,}")
"""A CronJob names its jobs after itself and the minute (kubernetes/pkg/controller/cronjob/utils.go, getJobName)."""


class _Owner(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Container(msgspec.Struct, frozen=True):
    name: str = ""
    image: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Started(msgspec.Struct, frozen=True):
    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    container_statuses: list[_Started] | None = None
    init_container_statuses: list[_Started] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] = []


class Kubernetes:
    """The API server of the cluster, as a pod reaches it."""

    def __init__(
        self,
        address: tuple[str, int],
        node: str,
        *,
        account: Path = ACCOUNT,
        well_known_labels: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`well_known_labels`: app.kubernetes.io/instance, name and version make service.name and service.version.
        Raises OSError where the account's certificate cannot be read."""
        self._address = address
        self._node = node
        self._account = account
        self._labels = well_known_labels
        self._clock = clock
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._pods: dict[str, _Pod] = {}
        self._allowance = float(_LISTS)
        self._counted_at = clock()

    def attributes(self, pod_uid: str, container_id: str) -> dict[str, str]:
        """What is known of a container of a pod; empty where the pod is not of this node. Raises OSError where the
        API does not answer."""
        if pod_uid not in self._pods and self._may_ask():
            self._pods = {uid: pod for pod in self._list() for uid in _uids(pod)}
        pod = self._pods.get(pod_uid)
        return {} if pod is None else dict(_told(pod, container_id, self._labels))

    def _may_ask(self) -> bool:
        now = self._clock()
        earned = (now - self._counted_at) / _SECONDS_A_LIST
        self._allowance = min(self._allowance + earned, float(_LISTS))
        self._counted_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _list(self) -> list[_Pod]:
        connection = http.client.HTTPSConnection(*self._address, timeout=TIMEOUT_SECONDS, context=self._context)
        try:
            # The token is replaced from time to time.
            token = (self._account / "token").read_text().strip()
            path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{quote(self._node)}"
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
            response = connection.getresponse()
            body = response.read(_MAX_BYTES)
            if response.status != http.client.OK:
                raise OSError(f"the Kubernetes API answers {response.status} to a list of the node's pods")
            return msgspec.json.decode(body, type=_Pods).items
        except (http.client.HTTPException, msgspec.MsgspecError, UnicodeError) as error:
            raise OSError(f"the Kubernetes API is not understood: {error}") from error
        finally:
            connection.close()


def in_cluster(environment: Mapping[str, str], account: Path = ACCOUNT) -> tuple[str, int] | None:
    """Where the API server is, for a process in a pod with a service account; None for any other."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isascii() or not port.isdigit() or not (account / "token").exists():
        return None
    return host, int(port)


def _uids(pod: _Pod) -> Iterator[str]:
    """Those by which control groups call a pod: a static pod's is the hash of its file."""
    yield pod.metadata.uid
    if mirrored := (pod.metadata.annotations or {}).get("kubernetes.io/config.hash"):
        yield mirrored


def _told(pod: _Pod, container_id: str, well_known: bool) -> Iterator[tuple[str, str]]:
    meta, labels = pod.metadata, pod.metadata.labels or {}
    yield "k8s.pod.name", meta.name
    yield "k8s.pod.uid", meta.uid
    yield "k8s.namespace.name", meta.namespace
    yield "k8s.node.name", pod.spec.node_name
    yield from _owners(meta, labels)
    container = _container(pod, container_id)
    if container is not None:
        yield "k8s.container.name", container.name
        yield "image", container.image
    yield "service.namespace", meta.namespace
    if well_known:
        yield "service.name", labels.get("app.kubernetes.io/instance") or labels.get("app.kubernetes.io/name", "")
        yield "service.version", labels.get("app.kubernetes.io/version", "")
    for name, value in (meta.annotations or {}).items():
        if name.startswith(_ANNOTATION):
            yield name.removeprefix(_ANNOTATION), value


def _owners(meta: _Metadata, labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    owner = next((owner for owner in meta.owner_references or () if owner.controller), None)
    if owner is None or owner.kind not in _OWNERS:
        return
    yield _OWNERS[owner.kind], owner.name
    suffix = "-" + labels.get("pod-template-hash", "")
    if owner.kind == "ReplicaSet" and len(suffix) > 1 and owner.name.endswith(suffix):
        # A Deployment names its replica sets after itself and this hash.
        yield "k8s.deployment.name", owner.name.removesuffix(suffix)
    if owner.kind == "Job" and (match := _SCHEDULED.fullmatch(owner.name)):
        yield "k8s.cronjob.name", match[1]


def _container(pod: _Pod, container_id: str) -> _Container | None:
    """The status tells which of the containers it is, some seconds late; where there is but one, it is that."""
    started = [*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())]
    specified = [*(pod.spec.containers or ()), *(pod.spec.init_containers or ())]
    name = next((one.name for one in started if one.container_id.rpartition("/")[2] == container_id), "")
    if not name:
        return specified[0] if len(specified) == 1 else None
    return next((one for one in specified if one.name == name), None)
