"""The rule that makes service.name. The first of these that a process has:

1. OTEL_SERVICE_NAME in its environment;
2. service.name in its OTEL_RESOURCE_ATTRIBUTES;
3. its systemd unit, unless the unit only starts other people's programs (a container engine, cron, a login);
4. what an interpreter or application server runs: the script, module, jar or application (`programs`);
5. its executable;
6. the name the kernel knows it by.

A container's name is not among them: without asking its runtime only the id is known, which would name a service by a
number that changes with every deployment. The id is told as container.id; the name comes from what runs inside.
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

# Units whose processes are not what the unit is called after.
_STARTERS: Final = re.compile(
    r"docker|containerd|crio|cri-o|podman|kubelet|k3s|k3s-agent|rke2-(?:server|agent)|snapd?\..*|systemd-nspawn@.*"
    r"|cron|crond|anacron|atd|rc-local|supervisor|supervisord|monit|runit|pm2-.*|ssh|sshd|dbus|init|emergency|rescue"
)


def service_name(identity: Identity) -> str:
    """The name of the service that a process belongs to; never empty."""
    told = environment_attributes(identity.environment).get("service.name")
    return _clean(told or _unit(identity) or program_name(identity) or identity.comm) or UNKNOWN


def packet_service_name(address: str, port: int) -> str:
    """The name of a server that is known by nothing but its packets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unit(identity: Identity) -> str:
    return "" if _STARTERS.fullmatch(identity.systemd_unit) else identity.systemd_unit


def _clean(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name).strip()[:MAX_CHARS]
