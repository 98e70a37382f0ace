"""The workload's ASGI application under uvicorn, on IPv4 and IPv6. Usage: -m … PORT LOOP [CERTIFICATE KEY]"""

from __future__ import annotations

import socket
import sys

import uvicorn

from integration.programs.app_asgi import app


def listener(family: socket.AddressFamily, address: str) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, int(sys.argv[1])))
    return listening


sockets = [listener(socket.AF_INET, "127.0.0.1"), listener(socket.AF_INET6, "::1")]
loop, (certificate, key) = sys.argv[2], sys.argv[3:5] if len(sys.argv) > 3 else (None, None)
config = uvicorn.Config(
    app,
    loop=loop,
    log_level="warning",
    lifespan="off",
    ssl_certfile=certificate,
    ssl_keyfile=key,
    timeout_keep_alive=60,
)
uvicorn.Server(config).run(sockets=sockets)
