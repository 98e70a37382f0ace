"""The workload's server as an ASGI application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs


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
