"""What a process's container is called, and which image it runs: asked of Kubernetes, of the container's runtime, or
read beside it, once for each container.

Nobody has to answer. Who does not answer in time is not asked again for a while, so that records are not held up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

from otelbpf.sources.bundles import read_bundle
from otelbpf.sources.docker import Inspected, inspect
from otelbpf.sources.host import host_root
from otelbpf.telemetry.log import RateLimited, logger

MAX_CONTAINERS: Final = 4096
MAX_CHARS: Final = 1024
PAUSE_SECONDS: Final = 30.0
"""How long someone who did not answer is left alone."""


class Pods(Protocol):
    """Kubernetes, or a stand-in."""

    def attributes(self, pod_uid: str, container_id: str) -> dict[str, str]: ...


class Workloads:
    """Resource attributes of containers, by id."""

    def __init__(
        self,
        *,
        sockets: Sequence[str] = (),
        labels: Collection[str] = (),
        pods: Pods | None = None,
        root: Path | None = None,
        ask: Callable[[str, str], Inspected | None] = inspect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sockets` of engines that speak Docker's API, by their paths on the host, of which `root` is the
        root; `labels` are those of a container's that are told."""
        self._sockets = sockets
        self._labels = labels
        self._pods = pods
        self._root = host_root() if root is None else root
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._silent_until: dict[str, float] = {}
        self._warnings = RateLimited(logger())

    def of(self, container_id: str, pod_uid: str = "") -> dict[str, str]:
        """Attributes by their names in the semantic conventions; empty for what is no container."""
        if not container_id:
            return {}
        known = self._known.get(container_id)
        if known is None:
            known = self._look(container_id, pod_uid)
            if known:
                self._known[container_id] = known
                if len(self._known) > MAX_CONTAINERS:
                    self._known.popitem(last=False)
        return known

    def _look(self, container_id: str, pod_uid: str) -> dict[str, str]:
        told = read_bundle(self._root, container_id) | self._of_pod(container_id, pod_uid)
        if not pod_uid:
            told |= self._of_engine(container_id)
        image = told.pop("image", "")
        told |= image_attributes(image)
        return {name: value[:MAX_CHARS] for name, value in told.items() if value}

    def _of_pod(self, container_id: str, pod_uid: str) -> dict[str, str]:
        if self._pods is None or not pod_uid or not self._is_willing("kubernetes"):
            return {}
        try:
            return self._pods.attributes(pod_uid, container_id)
        except OSError as error:
            self._pause("kubernetes", error)
            return {}

    def _of_engine(self, container_id: str) -> dict[str, str]:
        for socket in self._sockets:
            if not self._is_willing(socket):
                continue
            try:
                found = self._ask(str(self._root / socket.lstrip("/")), container_id)
            except (FileNotFoundError, ConnectionRefusedError):
                continue  # no such engine here, or not now
            except OSError as error:
                self._pause(socket, error)
                continue
            if found is not None:
                return self._told(found)
        return {}

    def _told(self, found: Inspected) -> dict[str, str]:
        labels = found.config.labels or {}
        told = {f"container.label.{name}": labels[name] for name in self._labels if name in labels}
        named = {"container.name": found.name.lstrip("/"), "container.image.id": found.image}
        return {**named, "image": found.config.image, **told}

    def _is_willing(self, who: str) -> bool:
        return self._clock() >= self._silent_until.get(who, 0.0)

    def _pause(self, who: str, error: OSError) -> None:
        self._silent_until[who] = self._clock() + PAUSE_SECONDS
        self._warnings.warn("workloads.unanswered", asked=who, reason=error.strerror or str(error))


def image_attributes(reference: str) -> dict[str, str]:
    """container.image.name and the tag of an image reference, `[host[:port]/]path[:tag][@digest]`
    (https://github.com/distribution/reference); a bare digest names nothing."""
    name, _, _ = reference.partition("@")
    if not name or name.startswith("sha256:"):
        return {}
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # that colon was the port's
        path, tag = name, ""
    return {"container.image.name": path, "container.image.tags": tag}
