"""The workload's server as a WSGI application: ?status= ?size= ?chunked=1 ?delay=MS say how to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    wish = {key: int(values[0]) for key, values in parse_qs(environ["QUERY_STRING"]).items() if values[0].isdigit()}
    received = 0
    while piece := environ["wsgi.input"].read(65536):
        received += len(piece)
    time.sleep(wish.get("delay", 0) / 1000)
    status, size = wish.get("status", 200), wish.get("size", 2)
    headers = [
        ("X-Peer", f"{os.getpid()} {environ['REMOTE_ADDR']} {environ['REMOTE_PORT']}"),
        ("X-Received", str(received)),
    ]
    if status in (204, 304):
        start_response(f"{status} Empty", headers)
        return []
    if wish.get("chunked"):
        start_response(f"{status} Chunked", headers)
        return (b"y" * min(1000, size - begin) for begin in range(0, size, 1000))
    start_response(f"{status} Sized", [*headers, ("Content-Length", str(size))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"y" * size]
