"""Runs a plan with aiohttp: one session, its connector bounded to N connections. Arguments: PLAN LOG N"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from yarl import URL

from integration.programs import workload


async def pieces(size: int) -> AsyncIterator[bytes]:
    for piece in workload.pieces(size):
        yield piece


async def run(session: aiohttp.ClientSession, request: dict[str, Any]) -> dict[str, Any]:
    size = request["body"]
    body = pieces(size) if request["chunked"] else b"x" * size
    answer = workload.Answer(request)
    try:
        async with session.request(
            request["method"],
            URL(request["url"], encoded=True),
            data=body,
            headers=request["headers"],
            allow_redirects=False,
        ) as response:
            content = await response.read()
            return answer.done(response.status, len(content), response.headers.get("X-Peer", ""))
    except aiohttp.ClientError as error:
        return answer.failed(error)


async def main() -> None:
    plan, concurrency = workload.plan()
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        workload.write_log(await asyncio.gather(*(run(session, request) for request in plan)))


asyncio.run(main())
