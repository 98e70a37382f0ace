"""Runs a plan with httpx: one asynchronous client with its pool. Arguments: PLAN LOG N [2]"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx

from integration.programs import workload


async def pieces(size: int) -> AsyncIterator[bytes]:
    for piece in workload.pieces(size):
        yield piece


async def run(client: httpx.AsyncClient, turn: asyncio.Semaphore, request: dict[str, Any]) -> dict[str, Any]:
    async with turn:
        size = request["body"]
        body = pieces(size) if request["chunked"] else b"x" * size
        answer = workload.Answer(request)
        try:
            response = await client.request(request["method"], request["url"], content=body, headers=request["headers"])
        except httpx.HTTPError as error:
            return answer.failed(error)
        return answer.done(response.status_code, len(response.content), response.headers.get("X-Peer", ""))


async def main() -> None:
    plan, concurrency = workload.plan()
    turn = asyncio.Semaphore(concurrency)
    http2 = sys.argv[4:] == ["2"]
    async with httpx.AsyncClient(timeout=30, http1=not http2, http2=http2) as client:
        workload.write_log(await asyncio.gather(*(run(client, turn, request) for request in plan)))


asyncio.run(main())
