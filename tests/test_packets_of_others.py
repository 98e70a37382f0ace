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


def their_calls(name: str) -> list[tuple[str, str]]:
    """(stream, path) of each request of an HTTP/2 result; "" where that tool does not know the path."""
    lines = (FOLDER / f"{name}.result").read_text().splitlines()
    request = re.compile(r'msg_type: Request, stream_id: Some\((\d+)\).*?path: "([^"]*)"')
    return [(found[1], found[2]) for line in lines if (found := request.search(line))]


def test_calls_seen_whole_agree() -> None:
    """h2c_ascii and grpc-service-name: the same one call, its status from the trailers; ours has its counts too."""
    for name, requests in (("h2c_ascii", 1), ("grpc-service-name", 3)):
        spans, ledger = replay(name)
        (span,) = spans
        found = attributes(span)
        assert [f"/{span.name}" for span in spans] == [path for _, path in their_calls(name)]
        assert (found["rpc.response.status_code"], found["otelbpf.rpc.request.messages"]) == ("OK", requests)
        assert "otelbpf.unknown" not in found
        assert not ledger.spans_lost


def test_a_call_with_missing_packets_says_so() -> None:
    """grpc-server-stream: three packets are missing between those of the response. Path and status are as theirs, the
    time to the first byte is that of the packets, and how many messages there were is not told."""
    spans, _ = replay("grpc-server-stream")
    (span,) = spans
    found = attributes(span)

    assert [f"/{span.name}"] == [path for _, path in their_calls("grpc-server-stream")]
    assert found["rpc.response.status_code"] == "OK"
    assert found["otelbpf.response.incomplete"] == "body_size_unknown"
    assert "otelbpf.rpc.response.messages" not in found
    assert found["otelbpf.time_to_first_byte_ns"] == 501_951_000


@pytest.mark.parametrize(("name", "statuses"), [("grpc-unknown", [None]), ("http2-multi", [200, 200])])
def test_what_stands_in_tables_from_before_is_unknown_to_both(name: str, statuses: list[int | None]) -> None:
    """No path is invented, by them or by us; ours names what is missing. In grpc-unknown the trailers too are two
    references to the table, so the call's status cannot be known; their tool takes it for a success."""
    spans, _ = replay(name)

    assert [path for _, path in their_calls(name)] == [""] * len(spans)
    assert [attributes(span).get("http.response.status_code") for span in spans] == statuses
    for span in spans:
        found = attributes(span)
        assert not {"url.path", "rpc.method", "rpc.response.status_code"} & set(found)
        assert {"*", ":path"} <= set(found["otelbpf.unknown"])  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["grpc-segmented", "grpc-unary", "httpv2-stream-id"])
def test_one_side_alone_is_not_believed(name: str) -> None:
    """Nothing marks HTTP/2 midway but frames, and they are believed when both sides show them whole. Two of these have
    no packet of the server, the third one that ends within a frame. Their tool reports requests, but no whole call."""
    spans, ledger = replay(name)

    assert len(their_calls(name)) == 1
    assert (spans, ledger.requests_begun) == ([], 0)
