"""The workload's server as an ASGI application under uvicorn, on IPv4 and IPv6. Usage: -m … PORT [CERTIFICATE KEY]"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import uvicorn


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    query = parse_qs(scope["query_string"].decode())
    wish = {key: int(values[0]) for key, values in query.items() if values[0].isdigit()}
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep(wish.get("delay", 0) / 1000)
    status, size = wish.get("status", 200), wish.get("size", 2)
    address, port = scope["client"]
    headers = [(b"x-peer", f"{os.getpid()} {address} {port}".encode()), (b"x-received", str(received).encode())]
    if status in (204, 304):
        size = 0
    elif not wish.get("chunked"):
        headers.append((b"content-length", str(size).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else b"y" * size
    step = 1000 if wish.get("chunked") else len(body) or 1
    for begin in range(0, len(body), step):
        await send({"type": "http.response.body", "body": body[begin : begin + step], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def listener(family: socket.AddressFamily, address: str) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, int(sys.argv[1])))
    return listening


sockets = [listener(socket.AF_INET, "127.0.0.1"), listener(socket.AF_INET6, "::1")]
certificate, key = sys.argv[2:4] if len(sys.argv) > 2 else (None, None)
config = uvicorn.Config(
    app, log_level="warning", lifespan="off", ssl_certfile=certificate, ssl_keyfile=key, timeout_keep_alive=60
)
uvicorn.Server(config).run(sockets=sockets)
