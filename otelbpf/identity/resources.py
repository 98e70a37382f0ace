"""A process as resource attributes, named as the semantic conventions name them.

What wins, from weakest to strongest: what was read about host and process; what its container's runtime or Kubernetes
says; the attributes that the collector's settings add to every resource; the process's own OTEL_RESOURCE_ATTRIBUTES and
OTEL_SERVICE_NAME. The settings cannot name the services, since all of them would get the same name; numbers that are
known cannot be replaced by text.

The command line is left out: it was redacted, but a secret without a name beside it cannot be told, and a resource goes
everywhere its spans go.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from otelbpf import __version__
from otelbpf.events.types import Host, Identity
from otelbpf.identity.environment import environment_attributes
from otelbpf.identity.scripts import base_name
from otelbpf.identity.service import packet_service_name, service_name

Value = str | int | tuple[str, ...]
Attributes = tuple[tuple[str, Value], ...]

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/service/#service-instance-id
_INSTANCES: Final = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
_NUMBERS: Final = frozenset(("process.pid", "process.parent_pid"))
_LISTS: Final = frozenset(("container.image.tags",))
_NAMES: Final = frozenset(("service.name", "service.instance.id"))


def resource_attributes(identity: Identity, host: Host, extra: Iterable[tuple[str, str]] = ()) -> Attributes:
    """The resource of a process's spans."""
    told = environment_attributes(identity.environment)
    told["service.name"] = service_name(identity)
    return _merged(_observed(identity, host), extra, told)


def packet_attributes(address: str, port: int, host: Host, extra: Iterable[tuple[str, str]] = ()) -> Attributes:
    """The resource of a server of which only its packets are known."""
    name = packet_service_name(address, port)
    observed: dict[str, Value] = {"service.instance.id": str(uuid.uuid5(_INSTANCES, name)), **_of_host(host)}
    return _merged(observed, extra, {"service.name": name})


def _observed(identity: Identity, host: Host) -> dict[str, Value]:
    # The start tells a process from the next one of its number, the host (if it has an id) from those of other hosts.
    instance = f"{host.id or host.name}/{identity.pid}/{identity.started_ns}"
    return {
        "service.instance.id": str(uuid.uuid5(_INSTANCES, instance)),
        "process.pid": identity.pid,
        "process.parent_pid": identity.parent_pid,
        "process.executable.name": base_name(identity.executable),
        "process.executable.path": identity.executable,
        "process.owner": identity.owner,
        "process.runtime.name": identity.runtime_name,
        "container.id": identity.container_id,
        **_of_host(host),
        **_of_workload(identity.workload),
    }


def _of_workload(workload: dict[str, str]) -> dict[str, Value]:
    """What it says of numbers is text, and could not replace them."""
    return {name: (value,) if name in _LISTS else value for name, value in workload.items() if name not in _NUMBERS}


def _of_host(host: Host) -> dict[str, Value]:
    return {
        "host.name": host.name,
        "host.id": host.id,
        "host.arch": host.arch,
        "os.type": host.os_type,
        "os.version": host.os_version,
        # Not telemetry.sdk.*: backends take its language for the language of the service.
        "telemetry.distro.name": "otelbpf",
        "telemetry.distro.version": __version__,
    }


def _merged(observed: dict[str, Value], extra: Iterable[tuple[str, str]], told: dict[str, str]) -> Attributes:
    """service.name first; what is empty is left out."""
    merged: dict[str, Value] = {"service.name": told["service.name"], **observed}
    merged.update({name: value for name, value in extra if name not in _NUMBERS | _NAMES})
    merged.update({name: value for name, value in told.items() if name not in _NUMBERS})
    return tuple((name, value) for name, value in merged.items() if value not in ("", 0))
