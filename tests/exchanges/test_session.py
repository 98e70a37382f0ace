"""A connection's conversation becomes exchanges: every request once, with its own response, or lost by name."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.events.wire import Unseen as Why
from otelbpf.exchanges.pairing import TURNS
from otelbpf.telemetry.ledger import Lost, Unseen
from otelbpf.tracing.span import Kind, Span, Status
from tests.fake_kernel import BOOT_NS, SECOND_NS, STEP_NS, FakeKernel, attributes

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Id: %d\r\n\r\nok"
PROXY_2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x00\x00\x01\x0a\x00\x00\x02\x9c\x40\x00\x50"
POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


def paths(spans: list[Span]) -> list[object]:
    return [attributes(span)["url.path"] for span in spans]


def balanced(kernel: FakeKernel) -> None:
    """Nothing is in no column."""
    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0


def test_a_request_and_its_response_are_one_span_with_four_times() -> None:
    """Start is the request's first byte, end the response's last, and the time to the first byte is kept."""
    kernel = FakeKernel()
    socket = kernel.accept()
    begin = kernel.now_ns
    socket.receive(POST[:10]).receive(POST[10:])
    socket.send(OK[:30] % ()).send(OK[30:] % 1)

    (span,) = kernel.spans()
    assert (span.name, span.kind, span.status) == ("POST /p", Kind.SERVER, Status.UNSET)
    assert span.start_ns == BOOT_NS + begin + 1000
    assert span.end_ns == BOOT_NS + begin + 4000
    assert attributes(span)["otelbpf.time_to_first_byte_ns"] == 2000
    assert attributes(span)["http.request.body.size"] == 5
    assert attributes(span)["http.response.body.size"] == 2
    balanced(kernel)


def test_the_connecting_process_has_a_client_span() -> None:
    """The same bytes seen at the other end, directions exchanged."""
    kernel = FakeKernel()
    kernel.connect().send(GET % 1).receive(OK % 1)

    (span,) = kernel.spans()
    assert span.kind is Kind.CLIENT
    assert attributes(span)["url.full"] == "http://h/1"


def test_both_ends_on_one_host_are_parent_and_child() -> None:
    """The server's span is made first here; either order joins."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    for i in range(3):
        client.send(GET % i)
        server.receive(GET % i).send(OK % i)
        client.receive(OK % i)

    spans = kernel.spans()
    servers = [span for span in spans if span.kind is Kind.SERVER]
    clients = [span for span in spans if span.kind is Kind.CLIENT]
    assert [(s.trace_id, s.parent_id) for s in servers] == [(c.trace_id, c.span_id) for c in clients]
    assert len({span.trace_id for span in spans}) == 3
    assert [c.parent_id for c in clients] == [b""] * 3
    # Sampled, it is known whether the parent is remote, and it is (opentelemetry/proto/trace/v1, SpanFlags).
    assert {(span.kind, span.flags) for span in spans} == {(Kind.SERVER, 0x301), (Kind.CLIENT, 0x101)}


def test_as_many_requests_are_joined_as_may_be_open() -> None:
    """All spans of the server are made before the first one of the client."""
    kernel = FakeKernel()
    client, server = kernel.pair()
    requests, responses = b"".join(GET % i for i in range(1000)), b"".join(OK % i for i in range(1000))
    client.send(requests)
    server.receive(requests).send(responses)
    client.receive(responses)

    spans = kernel.spans()
    servers = [span for span in spans if span.kind is Kind.SERVER]
    clients = [span for span in spans if span.kind is Kind.CLIENT]
    assert len(servers) == 1000
    assert [(s.trace_id, s.parent_id) for s in servers] == [(c.trace_id, c.span_id) for c in clients]


def test_connections_of_equal_addresses_are_not_joined() -> None:
    """Two hosts' private networks may use the same addresses: only the sequence numbers tell a connection."""
    kernel = FakeKernel()
    client, server = kernel.connect(), kernel.accept()
    client.send(GET % 1)
    server.receive(GET % 1).send(OK % 1)
    client.receive(OK % 1)

    one, two = kernel.spans()
    assert one.trace_id != two.trace_id
    assert (one.parent_id, two.parent_id) == (b"", b"")


@given(st.lists(st.integers(0, 200), max_size=6), st.lists(st.integers(0, 300), max_size=6))
def test_pipelined_requests_pair_in_order_however_they_are_cut(ask: list[int], answer: list[int]) -> None:
    """Five requests at once, then five responses; any cutting gives the same five spans."""
    kernel = FakeKernel()
    socket = kernel.accept()
    requests = b"".join(GET % i for i in range(5))
    responses = b"".join(b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\nx" % (200 + i) for i in range(5))
    for whole, cuts, act in ((requests, ask, socket.receive), (responses, answer, socket.send)):
        edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
        for a, b in pairwise(edges):
            if b > a:
                act(whole[a:b])

    spans = kernel.spans()
    assert [(p, attributes(s)["http.response.status_code"]) for p, s in zip(paths(spans), spans, strict=True)] == [
        (f"/{i}", 200 + i) for i in range(5)
    ]
    assert kernel.source.copied_more == [socket.key]
    balanced(kernel)


def test_a_response_recorded_before_its_request_waits_for_it() -> None:
    """A client's send is recorded when its call returns; another thread may have read the answer by then."""
    kernel = FakeKernel()
    socket = kernel.connect()
    for i in range(3):
        socket.receive(OK % i)
        socket.send(GET % i)

    spans = kernel.spans()
    assert [attributes(span)["url.full"] for span in spans] == [f"http://h/{i}" for i in range(3)]
    balanced(kernel)


def test_a_joined_connection_starts_with_its_first_whole_request() -> None:
    """The end of an upload and a response to something never seen are not reported."""
    kernel = FakeKernel()
    socket = kernel.accept(joined=True)
    socket.receive(b"the end of a body").send(OK % 0)
    socket.receive(GET % 1).send(OK % 1)
    socket.receive(GET % 2).send(OK % 2)

    assert paths(kernel.spans()) == ["/1", "/2"]
    balanced(kernel)


def test_a_joined_connection_that_pipelines_is_lost_by_name() -> None:
    """Nothing tells which response is whose, and nothing will."""
    kernel = FakeKernel()
    socket = kernel.accept(joined=True)
    socket.receive(GET % 1 + GET % 2).send(OK % 0)
    socket.send(OK % 1).send(OK % 2)
    socket.receive(GET % 3).send(OK % 3)

    assert kernel.spans() == []
    assert kernel.ledger.spans_lost == {Lost.JOINED_MIDWAY: 2}
    assert kernel.source.muted == [socket.key]
    balanced(kernel)


def test_a_lost_response_never_pairs_the_next_one_with_the_wrong_request() -> None:
    """The response's record found no room in the ring: its request is lost, and so is what cannot be told apart."""
    kernel = FakeKernel()
    socket = kernel.accept()
    socket.receive(GET % 1).send(OK % 1, lose=True)
    socket.receive(GET % 2).send(OK % 2)
    kernel.wait()
    for i in (3, 4):
        socket.receive(GET % i).send(OK % i)
    socket.close()

    assert paths(kernel.spans()) == ["/3", "/4"]
    assert kernel.ledger.spans_lost == {Lost.GAP_IN_HEAD: 2}
    assert kernel.ledger.unseen_bytes[Unseen.RING_FULL] == len(OK % 1)
    balanced(kernel)


def test_a_lost_request_loses_nothing_else() -> None:
    """Its response came before the next request, and so is not that one's answer."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for i in range(TURNS):
        socket.receive(GET % i).send(OK % i)
    socket.receive(GET % 4, lose=True).send(OK % 4)
    socket.receive(GET % 5).send(OK % 5)
    kernel.wait()
    socket.receive(GET % 6).send(OK % 6)
    socket.close()

    assert paths(kernel.spans()) == ["/0", "/1", "/2", "/3", "/5", "/6"]
    balanced(kernel)


@given(st.lists(st.sampled_from(["request", "response", "none"]), min_size=1, max_size=12), st.booleans())
def test_whatever_records_are_lost_no_span_is_wrong(losses: list[str], wait: bool) -> None:
    """Every span's status is the one its own request got, and every request is on the account."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for i, loss in enumerate(losses):
        socket.receive(GET % i, lose=loss == "request")
        socket.send(b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\nx" % (200 + i), lose=loss == "response")
        if wait:
            kernel.wait()
    socket.close()

    for span in kernel.spans():
        found = attributes(span)
        assert found["url.path"] == f"/{found['http.response.status_code'] - 200}"  # type: ignore[operator]
    assert kernel.ledger.requests_begun == len(losses) - losses.count("request")
    lost_bytes = socket.lost_sent + socket.lost_received
    assert kernel.ledger.unseen_bytes.get(Unseen.RING_FULL, 0) == lost_bytes
    balanced(kernel)


def test_a_body_beyond_the_budget_is_counted_not_seen() -> None:
    """The span is whole, its size exact; the ledger says how much was not copied."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    socket.send(head + bytes(100000), captured=8192)
    socket.receive(GET % 2).send(OK % 2)

    first, _ = kernel.spans()
    assert attributes(first)["http.response.body.size"] == 100000
    assert kernel.ledger.unseen_bytes == {Unseen.BEYOND_BUDGET: len(head) + 100000 - 8192 - 8}
    balanced(kernel)


def test_a_head_cut_by_the_budget_is_one_span_that_says_so() -> None:
    """Its end is inferred from the response's, and it is not reported a second time."""
    kernel = FakeKernel()
    request = b"GET /long HTTP/1.1\r\nHost: h\r\nCookie: " + b"c" * 20000 + b"\r\n\r\n"
    socket = kernel.accept().receive(request, captured=8192)
    socket.send(b"HTTP/1.0 200 OK\r\n\r\n").send(b"body").close()

    (span,) = kernel.spans()
    assert attributes(span)["otelbpf.request.incomplete"] == "head_beyond_limit"
    assert (span.status, attributes(span)["http.response.body.size"]) == (Status.UNSET, 4)
    assert kernel.ledger.requests_begun == 1
    balanced(kernel)


def test_a_body_sent_with_sendfile_does_not_hurt_its_exchange() -> None:
    """The length says where it ends."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1)
    socket.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").send(bytes(5000), captured=0, why=Why.SENDFILE)

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 5000
    assert kernel.ledger.unseen_bytes == {Unseen.SENDFILE: 5000}


def test_a_body_taken_by_splice_does_not_last_until_the_next_request() -> None:
    """The kernel tells of it with the next call on the socket, an hour later."""
    kernel = FakeKernel()
    head = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n"
    socket = kernel.accept().receive(head).send(OK % 1)
    kernel.wait(3600 * SECOND_NS)
    socket.receive(bytes(5000), captured=0, why=Why.SENDFILE).receive(GET % 2).send(OK % 2)

    spliced, _ = kernel.spans()
    assert attributes(spliced)["http.request.body.size"] == 5000
    assert (spliced.end_ns - spliced.start_ns) == STEP_NS


def test_after_an_upgrade_the_connection_is_left_alone() -> None:
    """101: one span, and the source is asked for silence."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(
        b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    socket.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")
    socket.receive(b"\x81\x85....GET / HTTP/1.1\r\n\r\n")

    (span,) = kernel.spans()
    assert attributes(span)["http.response.status_code"] == 101
    assert kernel.source.muted == [socket.key]
    assert kernel.ledger.connections["opaque"] == 1
    balanced(kernel)


@pytest.mark.parametrize("preamble", [b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 80\r\n", PROXY_2])
@pytest.mark.parametrize("together", [True, False])
def test_what_a_proxy_tells_of_its_client_is_no_part_of_the_first_request(preamble: bytes, together: bool) -> None:
    """The PROXY protocol, in front of nginx, say."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for data in [preamble + GET % 1] if together else [preamble, GET % 1]:
        socket.receive(data)
    end_ns = kernel.now_ns
    socket.send(OK % 1).receive(GET % 2).send(OK % 2).close()

    spans = kernel.spans()
    assert paths(spans) == ["/1", "/2"]
    assert spans[0].start_ns == BOOT_NS + end_ns
    balanced(kernel)


@pytest.mark.parametrize("serving", [True, False])
def test_what_comes_behind_another_protocol_is_told(serving: bool) -> None:
    """SOCKS5 (RFC 1928), and the request goes through: its server has answered in something else before."""
    kernel = FakeKernel()
    socket = kernel.accept() if serving else kernel.connect()
    ask, answer = (socket.receive, socket.send) if serving else (socket.send, socket.receive)
    connect = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90"
    for asked, answered in ((b"\x05\x01\x00", b"\x05\x00"), (connect, connect[:1] + b"\0" + connect[2:])):
        ask(asked)
        answer(answered)
    for number in range(3):
        ask(GET % number)
        answer(OK % number)
    socket.close()

    names = [str(attributes(span).get("url.path" if serving else "url.full")) for span in kernel.spans()]
    assert [name[-2:] for name in names] == ["/0", "/1", "/2"]
    balanced(kernel)


def test_an_unknown_protocol_is_muted_after_three_turns() -> None:
    """Redis, say: however many calls a turn takes, the third turn that begins with something unknown ends it."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for _ in range(3):
        assert kernel.source.muted == []
        socket.receive(b"*1\r\n$4\r\nPING\r\n").receive(b"*1\r\n").send(b"+PONG\r\n").send(b"+PONG\r\n")

    assert kernel.source.muted == [socket.key]
    assert kernel.ledger.connections["unknown_protocol"] == 1
    assert kernel.spans() == []


def test_requests_open_at_the_end_are_lost_by_name() -> None:
    """The source ends while a response is awaited."""
    kernel = FakeKernel()
    kernel.accept().receive(GET % 1)
    ledger = kernel.finish()

    assert ledger.spans_lost == {Lost.SHUTDOWN: 1}
    assert ledger.requests_balance() == 0


def test_of_too_many_open_requests_all_are_lost_by_name() -> None:
    """Three may be open; what comes behind the fourth is heard anew."""
    kernel = FakeKernel(max_open_exchanges=3)
    socket = kernel.accept().receive(GET % 1 + GET % 2 + GET % 3).send(OK % 1 + OK % 2 + OK % 3)
    socket.receive(GET % 4).receive(GET % 5).receive(GET % 6).receive(GET % 7)

    assert paths(kernel.spans()) == ["/1", "/2", "/3"]
    assert kernel.ledger.spans_lost == {Lost.EVICTED: 4}
    balanced(kernel)


def test_a_full_table_evicts_the_quietest_and_says_so() -> None:
    """Two places, three connections."""
    kernel = FakeKernel(max_connections=2)
    quiet, busy = kernel.accept(peer_port=1).receive(GET % 1), kernel.accept(peer_port=2)
    busy.receive(GET % 2).send(OK % 2)
    kernel.accept(peer_port=3).receive(GET % 3).send(OK % 3)
    quiet.send(OK % 1).close()

    assert paths(kernel.spans()) == ["/2", "/3"]
    assert kernel.ledger.spans_lost == {Lost.EVICTED: 1}
    assert kernel.ledger.unseen_bytes == {Unseen.EVICTED: len(OK % 1)}
    assert kernel.source.muted == [quiet.key]
    balanced(kernel)
