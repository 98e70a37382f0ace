"""From what clients asked and servers answered to the spans that must exist."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from integration.harness.clients import Asked
from integration.harness.plan import Answer, Request
from integration.harness.servers import FILES, Server
from integration.harness.truth import Expected


def file_plan(
    run: str, base: str, count: int, *, agent: str, kinds: tuple[str, ...] = ("text", "files")
) -> list[Request]:
    """`count` requests for a server of files: its fixed text, each file, a missing one, HEAD; `proxy` asks /p/."""
    shapes: list[tuple[str, str, int]] = []
    if "text" in kinds:
        shapes += [("GET", "/r/{}/{}", 0), ("HEAD", "/r/{}/{}?q=1&r", 0)]
    if "files" in kinds:
        shapes += [("GET", "/f/{}/{}/" + name, 0) for name in (*FILES, "missing")] + [("HEAD", "/f/{}/{}/large", 0)]
    if "proxy" in kinds:
        shapes += [("GET", "/p/{}/{}?size=3000", 0), ("POST", "/p/{}/{}?size=5000&chunked=1", 20000)]
        shapes += [("GET", "/p/{}/{}?status=404&size=5", 0), ("PUT", "/p/{}/{}?size=0", 77)]
    requests = []
    for number in range(count):
        method, path, body = shapes[number % len(shapes)]
        requests.append(
            Request(
                id=f"{number:05d}",
                method=method,
                url=base + path.format(run, f"{number:05d}"),
                body=body,
                headers={"User-Agent": agent, "Accept-Encoding": "identity"},
            )
        )
    return requests


def hops(peer: str) -> list[tuple[int | None, str, int]]:
    """X-Peer: pid (None where the server cannot tell it), client's address and port, of each server on the way."""
    words = peer.split()
    triples = zip(words[0::3], words[1::3], words[2::3], strict=True)
    return [
        (int(pid) if pid.isdigit() else None, str(ipaddress.ip_address(address.strip("[]"))), int(port))
        for pid, address, port in triples
    ]


def both_ends(asked: Asked, server: Server, *, listed: bool = True) -> list[Expected]:
    """The CLIENT span and the SERVER span of every request; `listed` says that every answer names the server's view."""
    expected = []
    for request in asked.requests:
        answer = asked.answers[request.id]
        assert answer.peer or not listed, f"{request.url} was answered without X-Peer"
        pid, address, port = hops(answer.peer)[0] if answer.peer else (None, urlsplit(request.url).hostname or "", None)
        pids = frozenset([pid]) if pid is not None else server.pids()
        expected.append(client_span(asked, request, answer, local=(address, port) if port else None))
        expected.append(server_span(server, request, answer, pids=pids, client=address, client_port=port))
    return expected


def client_span(
    asked: Asked, request: Request, answer: Answer, *, local: tuple[str, int] | None = None, peer: str = ""
) -> Expected:
    """What the client's process must be seen to have done; `peer` is the server's address where the URL has a name."""
    url = urlsplit(request.url)
    assert url.hostname is not None
    return Expected(
        kind="CLIENT",
        pids=frozenset([asked.pid]),
        service=asked.service,
        method=request.method,
        path=url.path,
        query=url.query,
        status=answer.status,
        request_size=request.body,
        response_size=answer.body,
        server_address=url.hostname,
        server_port=url.port or 80,
        peer_address=peer or url.hostname,
        peer_port=url.port or 80,
        local=local,
        user_agent=request.headers.get("User-Agent"),
        earliest_ns=answer.start_ns,
        latest_ns=answer.end_ns,
        version=request.version,
    )


def server_span(
    server: Server, request: Request, answer: Answer, *, pids: frozenset[int], client: str, client_port: int | None
) -> Expected:
    """What the server's process must be seen to have done. On loopback both ends have the same address."""
    url = urlsplit(request.url)
    assert url.hostname is not None
    return Expected(
        kind="SERVER",
        pids=pids,
        service=server.service,
        method=request.method,
        path=url.path,
        query=url.query,
        status=answer.status,
        request_size=request.body,
        response_size=answer.body,
        server_address=url.hostname,
        server_port=url.port or 80,
        peer_address=client,
        peer_port=client_port,
        local=(client, url.port or 80),
        user_agent=request.headers.get("User-Agent"),
        earliest_ns=answer.start_ns,
        latest_ns=answer.end_ns,
        version=request.version,
    )
