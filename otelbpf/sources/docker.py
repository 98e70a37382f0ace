"""What Docker's and Podman's API says of a container (GET /containers/ID/json, the same in both), through its socket.

Only this one question is ever asked. https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container
"""

from __future__ import annotations

import http.client
import socket
from typing import Final

import msgspec

TIMEOUT_SECONDS: Final = 0.5
"""An engine answers within milliseconds; one that hangs is not to hold up the records for longer."""
_MAX_BYTES: Final = 1 << 20


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """The few fields of the answer that are read."""

    name: str = ""
    image: str = ""
    """Its digest."""
    config: _Config = _Config()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


def inspect(path: str, container_id: str) -> Inspected | None:
    """What the engine at this socket knows; None where it does not know the container. Raises OSError where there is
    no engine, or none that makes itself understood."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", f"/containers/{container_id}/json")
        response = connection.getresponse()
        body = response.read(_MAX_BYTES)
        if response.status == http.client.NOT_FOUND:
            return None
        if response.status != http.client.OK:
            raise OSError(f"{path} answers {response.status}")
        return msgspec.json.decode(body, type=Inspected)
    except (http.client.HTTPException, msgspec.MsgspecError) as error:
        raise OSError(f"{path} is not understood: {error}") from error
    finally:
        connection.close()
