"""Captured packets that another tool was tested with, against what it made of them; every difference is explained.

The files are not part of the project (Apache-2.0, deepflowio/deepflow, agent/resources/test/flow_generator/http): they
are looked for beside the checkout. A `.result` holds one line a message, in the words of that tool's debug output.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from otelbpf.pipeline import Pipeline
from otelbpf.sources.replay import open_replay
from otelbpf.telemetry.ledger import Ledger, Lost
from otelbpf.tracing.span import Kind, Span
from tests.fake_kernel import attributes

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "deepflow-http"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the packet captures in {FOLDER}")


def replay(name: str) -> tuple[list[Span], Ledger]:
    spans: list[Span] = []
    ledger = Ledger()
    with closing(open_replay(FOLDER / f"{name}.pcap")) as source:
        pipeline = Pipeline(ledger=ledger, emit=spans.extend, source=source, seed=1)
        for records in source.batches():
            pipeline.feed(records)
    pipeline.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0
    return spans, ledger


def theirs(name: str) -> list[tuple[str, str, str, int, int]]:
    """(method, target, host, request body size, status) of each pair of lines of an HTTP/1 result."""
    lines = [line for line in (FOLDER / f"{name}.result").read_text().splitlines() if line.endswith("is_http: true")]
    found = []
    for request, response in zip(lines[::2], lines[1::2], strict=True):
        method = re.search(r"method: (\w+)", request)
        path = re.search(r'path: "([^"]*)"', request)
        host = re.search(r'host: "([^"]*)"', request)
        size = re.search(r"req_content_length: Some\((\d+)\)", request)
        status = re.search(r"status_code: Some\((\d+)\)", response)
        assert method
        assert path
        assert host
        assert status
        found.append((method[1].upper(), path[1], host[1], int(size[1]) if size else 0, int(status[1])))
    return found


def ours(span: Span) -> tuple[object, ...]:
    found = attributes(span)
    query = found.get("url.query")
    port = found["server.port"]
    host = f"{found['server.address']}{'' if port == 80 else f':{port}'}"
    return (
        found["http.request.method"],
        f"{found['url.path']}{f'?{query}' if query else ''}",
        host,
        found["http.request.body.size"],
        found["http.response.status_code"],
    )


@pytest.mark.parametrize(("name", "count"), [("httpv1", 1), ("sw8", 3)])
def test_whole_conversations_agree(name: str, count: int) -> None:
    """Method, target, host, body size and status, in order. Their third kind of line in sw8, `is_http: false`, is the
    second packet of a response, which their tool looks at by itself."""
    spans, ledger = replay(name)

    assert len(spans) == count
    assert [ours(span) for span in spans] == theirs(name)
    assert {span.kind for span in spans} == {Kind.SERVER}
    assert not ledger.spans_lost


def test_a_head_with_a_missing_packet_is_lost_by_name() -> None:
    """client-ip: the server acknowledged 308 bytes that are not in the file, and they are the end of the request's
    head. Their tool reads what there is; here the request is counted as lost, because its framing was not seen."""
    spans, ledger = replay("client-ip")

    assert len(theirs("client-ip")) == 1
    assert (spans, ledger.requests_begun, ledger.spans_lost) == ([], 1, {Lost.GAP_IN_HEAD: 1})


def test_a_response_that_ends_with_the_file_is_lost_by_name() -> None:
    """istio-tcp-frag: of the response there is the status line and no more. Their tool looks at single packets."""
    spans, ledger = replay("istio-tcp-frag")

    assert len(theirs("istio-tcp-frag")) == 1
    assert (spans, ledger.requests_begun, ledger.spans_lost) == ([], 1, {Lost.SHUTDOWN: 1})


@pytest.mark.parametrize(
    "name",
    [path.stem for path in sorted(FOLDER.glob("*.pcap")) if path.stem.startswith(("grpc", "h2c", "http2", "httpv2"))],
)
def test_http2_is_not_taken_for_something_else(name: str) -> None:
    """HTTP/2 is not read yet: no span, and no request that has begun."""
    spans, ledger = replay(name)

    assert (spans, ledger.requests_begun) == ([], 0)
