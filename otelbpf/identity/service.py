"""The rule that makes service.name. The first of these that a process has:

1. OTEL_SERVICE_NAME in its environment;
2. service.name in its OTEL_RESOURCE_ATTRIBUTES;
3. of a Kubernetes pod: the annotation resource.opentelemetry.io/service.name (or, where asked for, the well-known
   labels), then what owns the pod, the pod, the container; of other containers: the service of a compose project, or
   the container's name;
4. its systemd unit, unless the unit only starts other people's programs (a container engine, cron, a login);
5. what an interpreter or application server runs: the script, module, jar or application (`programs`);
6. its executable;
7. the name the kernel knows it by.

A container of which only the id is known has no name: the id changes with every deployment.
"""

from __future__ import annotations

import re
from typing import Final

from otelbpf.events.types import Identity
from otelbpf.identity.environment import environment_attributes
from otelbpf.identity.programs import program_name

UNKNOWN: Final = "unknown_service"
"""What the specification names a service of which nothing is known."""
MAX_CHARS: Final = 128

# https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/#how-servicename-should-be-calculated
_WORKLOAD: Final = (
    "service.name",
    "k8s.deployment.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.label.com.docker.compose.service",
    "container.name",
)
# Units whose processes are not what the unit is called after.
_STARTERS: Final = re.compile(
    r"docker|containerd|crio|cri-o|podman|kubelet|k3s|k3s-agent|rke2-(?:server|agent)|snapd?\..*|systemd-nspawn@.*"
    r"|cron|crond|anacron|atd|rc-local|supervisor|supervisord|monit|runit|pm2-.*|ssh|sshd|dbus|init|emergency|rescue"
)


def service_name(identity: Identity) -> str:
    """The name of the service that a process belongs to; never empty."""
    told = environment_attributes(identity.environment).get("service.name")
    return _clean(told or _workload(identity) or _unit(identity) or program_name(identity) or identity.comm) or UNKNOWN


def packet_service_name(address: str, port: int) -> str:
    """The name of a server that is known by nothing but its packets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _workload(identity: Identity) -> str:
    return next((identity.workload[name] for name in _WORKLOAD if name in identity.workload), "")


def _unit(identity: Identity) -> str:
    return "" if _STARTERS.fullmatch(identity.systemd_unit) else identity.systemd_unit


def _clean(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name).strip()[:MAX_CHARS]
