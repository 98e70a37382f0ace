"""A server and a client of aiohttp in one process: a WebSocket, on which both say what looks like HTTP, then plain
requests. Arguments: PORT PATH MESSAGES REQUESTS
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import ClientSession, web

ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
REQUEST = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n"


async def socket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        assert message.data == REQUEST
        await response.send_str(ANSWER)
    return response


async def plain(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def main(port: int, path: str, messages: int, requests: int) -> None:
    application = web.Application()
    application.router.add_get(f"{path}/socket", socket)
    application.router.add_get(f"{path}/plain", plain)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    base = f"http://127.0.0.1:{port}{path}"
    async with ClientSession() as session:
        async with session.ws_connect(f"{base}/socket") as connection:
            for _ in range(messages):
                await connection.send_str(REQUEST)
                assert (await connection.receive()).data == ANSWER
        for _ in range(requests):
            async with session.get(f"{base}/plain") as response:
                assert await response.text() == "ok"
    await runner.cleanup()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
