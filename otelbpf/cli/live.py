"""What `run` and `record` share: the kernel as a source, and the word that it is attached."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import partial

from otelbpf.cli.filters import matcher
from otelbpf.config.settings import Settings
from otelbpf.config.telling import Workloads as WorkloadSettings
from otelbpf.errors import PrivilegeError
from otelbpf.sources.attach import Loader
from otelbpf.sources.features import WITHOUT_ARRIVALS, WITHOUT_KPROBES, surroundings
from otelbpf.sources.kubernetes import Kubernetes, in_cluster
from otelbpf.sources.live import LiveSource
from otelbpf.sources.privileges import (
    BPF,
    KEPT,
    KEPT_FOR_TLS,
    NAMES,
    PERFMON,
    SYS_ADMIN,
    drop_privileges,
    has,
    what_to_keep,
)
from otelbpf.sources.processes import describe
from otelbpf.sources.workloads import Workloads
from otelbpf.telemetry.log import logger

_NEEDED = ((BPF, "load the probes"), (PERFMON, "attach them"))
_REMEDY = "run as root, for example with sudo; otelbpf doctor says more"


def open_live(settings: Settings, *, loader: Loader | None = None, own_ports: Iterable[int] = ()) -> LiveSource:
    """The probes attached as the settings ask. `settle` is to follow, once everything that needs more is open."""
    _require_capabilities()
    try:
        return _attach(settings, own_ports, loader)
    except PermissionError as error:
        raise PrivilegeError(f"{error.filename or 'the kernel'} refuses: {error.strerror}", _REMEDY) from error


def _require_capabilities() -> None:
    if has(SYS_ADMIN):  # which stands for both (capabilities(7))
        return
    missing = [f"{NAMES[number]} (to {what})" for number, what in _NEEDED if not has(number)]
    if missing:
        raise PrivilegeError(f"{' and '.join(missing)} missing", _REMEDY)


def _attach(settings: Settings, own_ports: Iterable[int], loader: Loader | None) -> LiveSource:
    return LiveSource(
        tier=settings.capture.tier,
        ports=settings.filters.ports,
        pids=settings.filters.pids,
        cgroups=settings.filters.cgroups,
        traced=matcher(settings.filters.executables),
        own_ports=own_ports,
        head_limit_bytes=settings.capture.head_limit_bytes,
        ring_bytes=settings.capture.ring_bytes,
        max_sockets=settings.capture.sockets,
        tls=settings.capture.tls,
        waits=settings.capture.socket_waits,
        describe=partial(describe, workloads=_workloads(settings.workloads)),
        loader=loader,
        tell_attached=_tell_attached,
        keep_privileges=True,
    )


def _tell_attached(file: str, pid: int) -> None:
    """Sessions of this library that begin from now on are told from their first request."""
    logger().info("tls.attached", file=file, pid=pid)


def _workloads(settings: WorkloadSettings) -> Workloads:
    pods = None
    address = in_cluster(os.environ) if settings.kubernetes == "auto" else None
    if address is not None:
        try:
            pods = Kubernetes(
                address, settings.node or socket.gethostname(), well_known_labels=settings.well_known_labels
            )
        except OSError as error:
            logger().warning("workloads.unanswered", asked="kubernetes", reason=str(error))
    return Workloads(sockets=settings.sockets, labels=settings.labels, pods=pods)


def settle(settings: Settings, source: LiveSource) -> None:
    """Give up what reading the ring and /proc does not need, unless it is to be kept. Threads inherit what is left:
    they are started after this, and files are opened before."""
    if not settings.privileges.drop:
        return
    kept = what_to_keep(KEPT_FOR_TLS if settings.capture.tls else KEPT, suffices=source.is_readable)
    drop_privileges(kept)
    if SYS_ADMIN in kept:
        logger().warning(
            "capture.limited",
            because="CAP_BPF was not given, and this kernel lets only CAP_SYS_ADMIN stand for it",
            costs="CAP_SYS_ADMIN is not given up",
            remedy="give CAP_BPF beside it, or use Linux 5.19 or newer",
        )


def tell_limits(source: LiveSource) -> None:
    """Log what tracing goes on without, what that costs, and what helps."""
    log = logger()
    if source.passed_over:
        log.info("capture.fallback", tier=source.tier, because=source.passed_over, costs=WITHOUT_KPROBES)
    if source.tls_refused:
        log.warning("capture.limited", because=source.tls_refused, costs="TLS is not looked into")
    if source.unwatched:
        log.warning("capture.limited", because=source.unwatched, costs=WITHOUT_ARRIVALS)
    for feature in surroundings():
        if not feature.works:
            log.warning("capture.limited", because=feature.found, costs=feature.costs, remedy=feature.remedy)


def ready_line(source: LiveSource, **more: str) -> str:
    """What is attached, and how many services it will see: key=value, parted by blanks."""
    told = {
        "tier": source.tier,
        "probes": str(len(source.probes)),
        "libraries": str(source.libraries),
        "services": str(len(source.services)),
        **more,
    }
    return "ready " + " ".join(f"{name}={value}" for name, value in told.items())
