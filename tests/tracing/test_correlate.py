"""Which spans are joined when only some processes are asked for: a parent is named only where it will be seen."""

from __future__ import annotations

from otelbpf.events.types import Identity
from otelbpf.telemetry.ledger import Lost
from otelbpf.tracing.span import Kind, Span
from tests.fake_kernel import FakeKernel

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def spans_of(*wanted: str) -> list[Span]:
    """The spans of one request between curl and nginx when only `wanted` executables are."""

    def traced(process: Identity) -> bool:
        return process.executable in wanted

    kernel = FakeKernel(traced=traced)
    kernel.process(200, "curl")
    kernel.process(100, "nginx")
    client, server = kernel.pair()
    client.send(GET)
    server.receive(GET).send(OK)
    client.receive(OK)
    spans = kernel.spans()
    assert kernel.ledger.spans_lost == ({Lost.FILTERED: 2 - len(wanted)} if len(wanted) < 2 else {})
    return spans


def test_a_server_whose_client_is_left_out_has_no_parent() -> None:
    """Nobody would ever see that parent."""
    (span,) = spans_of("nginx")
    assert (span.kind, span.parent_id) == (Kind.SERVER, b"")


def test_a_client_whose_server_is_left_out_is_a_root() -> None:
    """It is the parent of what is not reported."""
    (span,) = spans_of("curl")
    assert (span.kind, span.parent_id) == (Kind.CLIENT, b"")


def test_both_asked_for_are_joined() -> None:
    """As they are without a filter."""
    server, client = spans_of("curl", "nginx")
    assert (server.trace_id, server.parent_id) == (client.trace_id, client.span_id)
