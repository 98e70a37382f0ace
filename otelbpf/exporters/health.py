"""The health server: /metrics, /healthz and /readyz, on a thread of its own.

It promises to cost the collector nothing whoever connects: GET and HEAD only, a bounded head, a deadline for the
whole request, a bounded number of connections at once, one request a connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final

from otelbpf.errors import ExportError

_MAX_HEAD_BYTES: Final = 8192
_MAX_CONNECTIONS: Final = 32
_DEADLINE_SECONDS: Final = 5.0
_PLAIN: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class HealthServer:
    """Listens from construction on, serves until `close`."""

    def __init__(
        self,
        address: str,
        *,
        metrics: Callable[[str], tuple[Iterable[bytes], str]],
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """`metrics` takes an Accept header and gives a body, in pieces, and its content type; `prepare` is called first
        on the server's thread (to give up its privileges, which are a thread's own). Raises ExportError where the
        address cannot be listened on."""
        self._metrics = metrics
        self._prepare = prepare
        self._state = "not attached yet"
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener = _listen(address)
        host, port = self._listener.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """Where it listens; the port is the real one where 0 was asked for."""
        self.port: int = port
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otelbpf-health", daemon=True)
        self._thread.start()
        self._started.wait()

    def ready(self) -> None:
        """Every probe is attached: /readyz says 200 from now on."""
        self._state = ""

    def draining(self) -> None:
        """The end has begun: /readyz says 503 from now on."""
        self._state = "draining"

    def close(self) -> None:
        """Stop listening; harmless when called twice."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._prepare()
            asyncio.run(self._serve())
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connection, sock=self._listener, limit=_MAX_HEAD_BYTES)
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._end.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > _MAX_CONNECTIONS:
                return
            async with asyncio.timeout(_DEADLINE_SECONDS):
                for part in await self._answer(reader):
                    writer.write(part)
                    await writer.drain()
        except (OSError, TimeoutError):
            return  # the peer went away, or was too slow: nobody is left to tell
        finally:
            self._open -= 1
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Iterable[bytes]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, "the request's head is too large\n", _PLAIN)
        except asyncio.IncompleteReadError:
            return _response(400, "the request is incomplete\n", _PLAIN)
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(400, "not an HTTP/1 request\n", _PLAIN)
        method, target, version = words
        if method not in ("GET", "HEAD"):
            return _response(405, "only GET and HEAD\n", _PLAIN, extra="Allow: GET, HEAD\r\n")
        status, body, content_type = self._resource(target.partition("?")[0], _accept(lines[1:]))
        if isinstance(body, str):
            return _response(status, body, content_type, head_only=method == "HEAD")
        return _stream(body, content_type, head_only=method == "HEAD", chunked=version != "HTTP/1.0")

    def _resource(self, path: str, accept: str) -> tuple[int, str | Iterable[bytes], str]:
        if path == "/metrics":
            return 200, *self._metrics(accept)
        if path == "/healthz":
            return 200, "ok\n", _PLAIN
        if path == "/readyz":
            state = self._state
            return (503, f"{state}\n", _PLAIN) if state else (200, "ok\n", _PLAIN)
        return 404, "try /metrics, /healthz or /readyz\n", _PLAIN


def _accept(lines: list[str]) -> str:
    fields = (line.partition(":") for line in lines)
    return ",".join(value.strip() for name, _, value in fields if name.lower() == "accept")


def _response(
    status: int, body: str, content_type: str, *, extra: str = "", head_only: bool = False
) -> tuple[bytes, ...]:
    content = body.encode()
    head = _head(status, content_type, f"Content-Length: {len(content)}\r\n{extra}")
    return (head,) if head_only else (head, content)


def _stream(body: Iterable[bytes], content_type: str, *, head_only: bool, chunked: bool) -> Iterator[bytes]:
    """Pieces as they come: whoever makes them is not kept from other work in between (RFC 9112 section 7.1)."""
    yield _head(200, content_type, "Transfer-Encoding: chunked\r\n" if chunked else "")
    if head_only:
        return
    for piece in filter(None, body):
        yield b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    if chunked:
        yield b"0\r\n\r\n"


def _head(status: int, content_type: str, fields: str) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n{fields}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1")


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    remedy = "choose another address with --listen HOST:PORT, or --listen off"
    try:
        family, _, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(place[:2], family=family, backlog=_MAX_CONNECTIONS)
    except OSError as error:
        # Python adds the address to the kernel's words, which stands in this line already.
        told = (error.strerror or str(error)).partition(" (while ")[0]
        what = "the port is taken" if error.errno == errno.EADDRINUSE else told.lower()
        raise ExportError(f"cannot listen on {address}: {what}", remedy) from None
    listener.setblocking(False)
    return listener
