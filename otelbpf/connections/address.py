"""Both ends of a socket as a span tells them: text addresses, IPv4-mapped ones as IPv4, IPv6 as RFC 5952 writes it."""

from __future__ import annotations

import functools
import ipaddress
from typing import Final, Literal

from otelbpf.events.wire import ENDPOINTS
from otelbpf.values import Value

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2


class Endpoints(Value):
    """Where a socket stands (local) and whom it speaks to (remote)."""

    __match_args__ = ("local_address", "local_port", "remote_address", "remote_port", "network_type", "namespace")

    def __init__(
        self,
        local_address: str,
        local_port: int,
        remote_address: str,
        remote_port: int,
        network_type: Literal["ipv4", "ipv6"],
        namespace: int,
    ) -> None:
        self.local_address: Final = local_address
        self.local_port: Final = local_port
        self.remote_address: Final = remote_address
        self.remote_port: Final = remote_port
        self.network_type: Final = network_type
        """network.type of what goes over the wire: an IPv6 socket that carries IPv4 is ipv4."""
        self.namespace: Final = namespace
        """Inode number of the network namespace, without which addresses may repeat."""

    @property
    def is_known(self) -> bool:
        """Nobody speaks to port 0: it stands for an end that is not known."""
        return self.remote_port != 0


def parse_endpoints(raw: bytes) -> Endpoints:
    """Read raw `struct endpoints` (40 bytes)."""
    local, remote, local_port, remote_port, namespace = ENDPOINTS.unpack(raw)
    # Until a socket is bound its own address is the unspecified one (::) whatever it will carry: the peer's decides.
    ipv4 = remote.startswith(_IPV4_MAPPED) or local.startswith(_IPV4_MAPPED)
    return Endpoints(
        address_text(local), local_port, address_text(remote), remote_port, "ipv4" if ipv4 else "ipv6", namespace
    )


# A host speaks to few addresses but over many connections.
@functools.lru_cache(maxsize=4096)
def address_text(raw: bytes) -> str:
    """A 16-byte address as text."""
    if raw.startswith(_IPV4_MAPPED):
        return str(ipaddress.IPv4Address(raw[12:]))
    return str(ipaddress.IPv6Address(raw))
