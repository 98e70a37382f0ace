"""What must be told of requests that pass through a proxy: each end of each hop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from integration.harness import expect, truth
from integration.harness.clients import Asked
from integration.harness.servers import Server
from integration.harness.spans import SeenSpan
from integration.harness.truth import Expected, replace


def spans_expected(
    asked: Asked,
    front: Server,
    upstream: Server,
    *,
    names_client: bool,
    schemes: tuple[str, str] = ("http", "http"),
    onward_version: str = "1.1",
) -> list[Expected]:
    """Both spans of every request, and those of each that goes on to the upstream. `names_client`: the proxy tells the
    upstream, in a header, who asks. `schemes` of the first hop and of the second."""
    expected: list[Expected] = []
    for request in asked.requests:
        answer = asked.answers[request.id]
        # Apache does not add its header to its own error pages.
        (pid, address, port), *behind = expect.hops(answer.peer) or expect.hops("- 127.0.0.1 0")
        pids = front.pids() if pid is None else frozenset([pid])
        inner = expect.server_span(front, request, answer, pids=pids, client=address, client_port=port or None)
        outer = expect.client_span(asked, request, answer, local=(address, port) if port else None)
        expected += [replace(outer, scheme=schemes[0]), replace(inner, scheme=schemes[0])]
        if urlsplit(request.url).path.startswith("/p/"):
            # The proxy keeps the Host of the request, so that is the server which both further spans name.
            backend_pid, _, backend_port = behind[0] if behind else (None, "", None)
            assert backend_pid is None or backend_pid in upstream.pids()
            onward = replace(
                inner,
                kind="CLIENT",
                scheme=schemes[1],
                version=onward_version,
                peer_address="127.0.0.1",
                peer_port=upstream.port,
                local=("127.0.0.1", backend_port) if backend_port else None,
            )
            last = replace(
                inner,
                pids=upstream.pids() if backend_pid is None else frozenset([backend_pid]),
                service=upstream.service,
                scheme=schemes[1],
                version=onward_version,
                peer_port=backend_port,
                local=("127.0.0.1", upstream.port),
                client_address=address if names_client else "",
            )
            expected += [onward, last]
    return expected


def assert_equal(
    expected: Sequence[Expected], spans: Sequence[SeenSpan], hops: Sequence[int], *, exact_sends: bool = False
) -> None:
    """The spans are those expected, hop by hop, which the ports of their servers tell."""
    by_hop = {port: [span for span in spans if _server_end(span.kind, span.attributes) == port] for port in hops}
    assert sum(map(len, by_hop.values())) == len(spans)
    for port, of_hop in by_hop.items():
        wanted = [
            one for one in expected if (one.peer_port if one.kind == "CLIENT" else one.local and one.local[1]) == port
        ]
        truth.assert_equal(wanted, of_hop, exact_sends=exact_sends)


def _server_end(kind: str, attributes: dict[str, Any]) -> Any:
    """The port of a connection's server."""
    return attributes["network.peer.port" if kind == "CLIENT" else "network.local.port"]
