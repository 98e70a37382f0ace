"""HTTP/2: every request of every stream once, with its own response, or lost by name; nothing invented."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.events.wire import Unseen as Why
from otelbpf.exchanges.streams import ASKED
from otelbpf.telemetry.ledger import Lost, Unseen
from otelbpf.tracing.span import Kind, Span, Status
from tests.fake_kernel import BOOT_NS, FakeKernel, attributes
from tests.fake_tls import FakeSession
from tests.h2_talk import Talk, play

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def paths(spans: list[Span]) -> list[object]:
    return [attributes(span).get("url.path") for span in spans]


def balanced(kernel: FakeKernel) -> None:
    """Nothing is in no column."""
    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0


def test_a_stream_is_one_span_with_four_times_and_both_sizes() -> None:
    """Start is the first byte of the request's HEADERS, end the last of the response."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    begin = kernel.now_ns
    number = talk.ask("/a?b=c", method="POST", body=b"x" * 5, end=False)
    talk.more(number, b"y" * 7, end=True)
    talk.answer(number, 201, b"z" * 3, end=False)
    talk.more(number, b"z" * 4, from_client=False, end=True)

    (span,) = kernel.spans()
    found = attributes(span)
    assert (span.name, span.kind, span.status) == ("POST /a", Kind.SERVER, Status.UNSET)
    assert (span.start_ns, span.end_ns) == (BOOT_NS + begin + 1000, BOOT_NS + begin + 4000)
    assert found["otelbpf.time_to_first_byte_ns"] == 2000
    assert (found["http.request.body.size"], found["http.response.body.size"]) == (12, 7)
    assert (found["url.path"], found["url.query"], found["url.scheme"]) == ("/a", "b=c", "http")
    assert (found["network.protocol.version"], found["http.response.status_code"]) == ("2", 201)
    assert "otelbpf.unknown" not in found
    assert kernel.source.copied_more == [talk.socket.key]
    assert kernel.source.walked == []
    assert kernel.ledger.connections["http2"] == 1
    balanced(kernel)


def test_streams_are_answered_in_any_order() -> None:
    """A hundred are open, and the last is answered first."""
    kernel = FakeKernel()
    talk = Talk(kernel, client=True)
    numbers = [talk.ask(f"/{i}") for i in range(100)]
    for i, number in reversed(list(enumerate(numbers))):
        talk.answer(number, 200 + i, b"x" * i)

    spans = [attributes(span) for span in kernel.spans()]
    assert [(a["url.full"], a["http.response.status_code"], a["http.response.body.size"]) for a in spans] == [
        (f"http://h/{i}", 200 + i, i) for i in reversed(range(100))
    ]
    balanced(kernel)


def test_both_ends_on_one_host_are_parent_and_child() -> None:
    """A request is found at the other end by where its HEADERS begin."""
    kernel = FakeKernel()
    talk = Talk(kernel, both=True)
    numbers = [talk.ask(f"/{i}") for i in range(5)]
    for number in reversed(numbers):
        talk.answer(number, body=b"x")

    spans = kernel.spans()
    servers = {str(attributes(span)["url.path"]): span for span in spans if span.kind is Kind.SERVER}
    clients = {str(attributes(s)["url.full"])[len("http://h") :]: s for s in spans if s.kind is Kind.CLIENT}
    assert servers.keys() == clients.keys() == {f"/{i}" for i in range(5)}
    for path, server in servers.items():
        assert (server.trace_id, server.parent_id) == (clients[path].trace_id, clients[path].span_id)
    assert len({span.trace_id for span in spans}) == 5
    balanced(kernel)


def test_a_traceparent_is_its_own_streams() -> None:
    """The second of three carries one."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    for i in range(3):
        talk.ask(f"/{i}", headers=[("traceparent", PARENT)] if i == 1 else [])
    for i in range(3):
        talk.answer(1 + 2 * i)

    spans = kernel.spans()
    assert [span.parent_id.hex() for span in spans] == ["", "b7ad6b7169203331", ""]
    assert [span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c" for span in spans] == [False, True, False]


def recorded(*, cut: int = 0) -> list[tuple[bool, bytes]]:
    """A conversation with everything in it."""
    talk = Talk(None, cut=cut)
    one = talk.ask("/0", method="POST", body=b"x" * 100, end=False)
    two = talk.ask("/1", headers=[("traceparent", PARENT)])
    talk.answer(two, 201, b"y" * 50, end=False)
    three = talk.ask("/2", headers=[("x-id", "a" * 40)])
    talk.more(two, b"y" * 50, from_client=False, end=True)
    talk.answer(three, 202, headers=[("x-id", "b" * 40)])
    talk.more(one, b"x" * 20, end=True)
    talk.answer(one, 200, b"z" * 10, trailers=[("x-checksum", "1")])
    four = talk.ask("/3")
    talk.answer(four, 203, b"y" * 3)
    return talk.told


WHOLE = {(f"/{i}", 200 + i, size) for i, size in enumerate((10, 100, 0, 3))}


def seen(spans: list[Span]) -> set[tuple[object, ...]]:
    found = [attributes(span) for span in spans]
    return {(a["url.path"], a["http.response.status_code"], a["http.response.body.size"]) for a in found}


@settings(deadline=None)
@given(st.integers(1, 120))
def test_however_it_is_cut_the_spans_are_the_same(cut: int) -> None:
    """Frames, header blocks and prefaces in pieces of any size."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for from_client, data in recorded(cut=cut):
        play(data, from_client, None, socket)

    spans = kernel.spans()
    assert len(spans) == 4
    assert seen(spans) == WHOLE
    assert kernel.ledger.spans_lost == {}
    balanced(kernel)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_whatever_records_are_lost_no_span_is_wrong(data: st.DataObject) -> None:
    """What a span says is so; what it does not know, it names; every request is on the account."""
    records = recorded(cut=data.draw(st.sampled_from([0, 30, 64])))
    lost = data.draw(st.sets(st.integers(0, len(records) - 1), max_size=4))
    kernel = FakeKernel()
    socket = kernel.accept()
    for at, (from_client, piece) in enumerate(records):
        play(piece, from_client, None, socket, lose=at in lost)
        if data.draw(st.booleans()):
            kernel.wait()
    socket.close()

    whole = {path: (status, size) for path, status, size in WHOLE}
    for span in kernel.spans():
        found = attributes(span)
        path, status = found.get("url.path"), found.get("http.response.status_code")
        if path is not None and status is not None:
            assert status == whole[str(path)][0]
        if path is None:
            assert ":path" in str(found["otelbpf.unknown"])
        if path is not None and "http.response.body.size" in found and "error.type" not in found:
            assert found["http.response.body.size"] == whole[str(path)][1]
    assert kernel.ledger.unseen_bytes.get(Unseen.RING_FULL, 0) == socket.lost_sent + socket.lost_received
    balanced(kernel)


def test_a_response_recorded_before_its_request_waits_for_it() -> None:
    """A client's send is recorded when its call returns; another thread may have read the answer by then."""
    talk = Talk(None)
    for i in range(3):
        talk.answer(talk.ask(f"/{i}"), 200 + i, b"x" * i)
    kernel = FakeKernel()
    socket = kernel.connect()
    greeting, rest = talk.told[:-6], talk.told[-6:]
    for from_client, data in [*greeting, *(rest[at] for at in (1, 3, 0, 2, 5, 4))]:
        play(data, from_client, socket, None)

    found = [attributes(span) for span in kernel.spans()]
    assert [(a["url.full"], a["http.response.status_code"]) for a in found] == [
        (f"http://h/{i}", 200 + i) for i in range(3)
    ]
    assert [a["otelbpf.time_to_first_byte_ns"] for a in found] == [0, 0, 0]
    balanced(kernel)


def test_a_response_does_not_wait_for_ever() -> None:
    """Its request was lost: it is nobody's, and the request that comes late is answered by nothing."""
    talk = Talk(None)
    talk.answer(talk.ask("/0"), 200)
    kernel = FakeKernel()
    socket = kernel.connect()
    for from_client, data in [*talk.told[:-2], talk.told[-1]]:
        play(data, from_client, socket, None)
    kernel.wait()
    play(talk.told[-2][1], True, socket, None)
    socket.close()

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "connection_closed"
    assert "http.response.status_code" not in attributes(span)
    balanced(kernel)


@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("code", "error"),
    [(ErrorCodes.CANCEL, "CANCEL"), (ErrorCodes.REFUSED_STREAM, "REFUSED_STREAM"), (99, "INTERNAL_ERROR")],
)
def test_a_reset_ends_its_stream_with_its_code(by_client: bool, begun: bool, code: int, error: str) -> None:
    """From either side, before or within the response; the others go on."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    one, two = talk.ask("/0", body=b"x", end=False), talk.ask("/1")
    if begun:
        talk.answer(one, 200, b"y" * 9, end=False)
    talk.reset(one, code, by_client=by_client)
    talk.answer(two, 201)

    first, second = kernel.spans()
    found = attributes(first)
    assert (found["url.path"], first.status, found["error.type"]) == ("/0", Status.ERROR, error)
    assert found.get("http.response.status_code") == (200 if begun else None)
    assert (found["http.request.body.size"], found.get("http.response.body.size")) == (1, 9 if begun else None)
    assert first.end_ns == BOOT_NS + kernel.now_ns - 1000
    assert (attributes(second)["url.path"], second.status) == ("/1", Status.UNSET)
    balanced(kernel)


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_behind_a_whole_response_is_no_error(by_client: bool) -> None:
    """A server needs no more of the request, or a client says no more (RFC 9113 section 8.1)."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    number = talk.ask("/0", method="POST", body=b"x" * 10, end=False)
    talk.answer(number, 413, b"no")
    end = kernel.now_ns
    talk.reset(number, ErrorCodes.NO_ERROR if not by_client else ErrorCodes.CANCEL, by_client=by_client)

    (span,) = kernel.spans()
    assert (span.status, attributes(span)["http.response.status_code"]) == (Status.UNSET, 413)
    assert span.end_ns == BOOT_NS + end
    assert "error.type" not in attributes(span)
    balanced(kernel)


@pytest.mark.parametrize("error", [0, 104])
def test_open_streams_end_with_their_connection(error: int) -> None:
    """error.type is the kernel's, or connection_closed; a response that was whole is none."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    talk.ask("/0")
    talk.answer(talk.ask("/1"), 201, b"y" * 5, end=False)
    talk.answer(talk.ask("/2", method="POST", body=b"x", end=False), 202)
    talk.socket.close(error=error)

    spans = kernel.spans()
    why = "ECONNRESET" if error else "connection_closed"
    assert {
        (a["url.path"], a.get("http.response.status_code"), a.get("error.type")) for a in map(attributes, spans)
    } == {("/0", None, why), ("/1", 201, why), ("/2", 202, None)}
    balanced(kernel)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("announced", "error"), [("5", False), ("6", True)])
def test_who_leaves_with_all_the_content_lacks_nothing(reset: bool, announced: str, error: bool) -> None:
    """curl goes when it has what Content-Length said, and does not wait for the empty frame that ends the stream."""
    kernel = FakeKernel()
    talk = Talk(kernel, client=True)
    number = talk.ask("/0")
    talk.answer(number, 200, b"y" * 5, end=False, headers=[("content-length", announced)])
    if reset:
        talk.reset(number, ErrorCodes.CANCEL)
    end = kernel.now_ns
    talk.socket.close(error=104)

    (span,) = kernel.spans()
    found = attributes(span)
    assert found["http.response.body.size"] == 5
    assert not reset or span.end_ns == BOOT_NS + end - (0 if error else 1000)
    why = "CANCEL" if reset else "ECONNRESET"
    assert (span.status, found.get("error.type")) == ((Status.ERROR, why) if error else (Status.UNSET, None))
    assert found.get("otelbpf.response.incomplete") == ("closed" if error and not reset else None)
    balanced(kernel)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_who_leaves_with_a_head_that_has_no_content_lacks_nothing(method: str, status: int) -> None:
    """hypercorn ends such a stream with a frame of its own."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    talk.answer(talk.ask("/0", method=method), status, end=False, headers=[("content-length", "1234")])
    talk.socket.close(error=32)

    (span,) = kernel.spans()
    assert (span.status, attributes(span)["http.response.status_code"]) == (Status.UNSET, status)
    balanced(kernel)


def test_requests_open_at_the_end_are_lost_by_name() -> None:
    """The source ends while responses are awaited."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    talk.ask("/0")
    talk.ask("/1")

    assert kernel.finish().spans_lost == {Lost.SHUTDOWN: 2}
    assert kernel.ledger.requests_balance() == 0


def test_of_too_many_the_oldest_is_lost_by_name() -> None:
    """And every other one is reported."""
    kernel = FakeKernel(max_open_exchanges=10)
    talk = Talk(kernel)
    numbers = [talk.ask(f"/{i}") for i in range(30)]
    for number in numbers:
        talk.answer(number)

    assert paths(kernel.spans()) == [f"/{i}" for i in range(20, 30)]
    assert kernel.ledger.spans_lost == {Lost.EVICTED: 20}
    balanced(kernel)


def test_a_body_beyond_the_budget_has_its_size() -> None:
    """DATA is counted by its frame header; what of it is not copied is on the account."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    number = talk.ask("/0")
    talk.how = {"captured": 40}
    talk.answer(number, 200, b"y" * 10000, end=False)
    talk.how = {}
    talk.more(number, b"y" * 5, from_client=False, end=True)
    talk.answer(talk.ask("/1"), 201)

    spans = kernel.spans()
    assert seen(spans) == {("/0", 200, 10005), ("/1", 201, 0)}
    assert kernel.ledger.unseen_bytes[Unseen.BEYOND_BUDGET] > 9000
    balanced(kernel)


def test_sendfile_within_a_body_hurts_nothing() -> None:
    """nginx sends the frame's header by itself."""
    kernel = FakeKernel()
    talk = Talk(kernel)
    number = talk.ask("/0")
    talk.answer(number, 200, b"", end=False)
    talk.say(False, b"\0\x13\x88\0\1" + number.to_bytes(4))
    talk.how = {"captured": 0, "why": Why.SENDFILE}
    talk.say(False, bytes(5000))

    assert seen(kernel.spans()) == {("/0", 200, 5000)}
    balanced(kernel)


# -- how a connection is known for HTTP/2 ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 25))
def test_the_preface_is_known_however_it_is_cut(size: int) -> None:
    """Nothing is believed before it can be nothing else."""
    kernel = FakeKernel()
    talk = Talk(None)
    talk.answer(talk.ask("/0"))
    socket = kernel.accept()
    (_, preface), *rest = talk.told
    for piece in (preface[:size], preface[size:]):
        play(piece, True, None, socket)
    for from_client, data in rest:
        play(data, from_client, None, socket)

    assert paths(kernel.spans()) == ["/0"]
    balanced(kernel)


@pytest.mark.parametrize("wait", [False, True])
def test_a_server_may_greet_first(wait: bool) -> None:
    """gRPC's servers do, and the client may take its time."""
    kernel = FakeKernel()
    talk = Talk(kernel, greet=False)
    talk.server.initiate_connection()
    greeting = talk.server.data_to_send()
    talk.say(False, greeting)
    if wait:
        kernel.wait()
        kernel.wait()
    talk.client.initiate_connection()
    talk.client.receive_data(greeting)
    talk.flush()
    talk.answer(talk.ask("/0"), 204)

    assert paths(kernel.spans()) == ["/0"]
    balanced(kernel)


UPGRADE = (
    b"GET /%d HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("client", [False, True])
def test_an_upgraded_request_is_answered_on_stream_one(together: bool, client: bool) -> None:
    """RFC 7540 section 3.2; the 101 is no answer. What stands behind it in one call is frames."""
    kernel = FakeKernel()
    talk = Talk(kernel, client=client, greet=False)
    talk.client.initiate_upgrade_connection()
    talk.server.initiate_upgrade_connection(b"AAMAAABkAAQAAP__")
    talk.say(True, UPGRADE % 0)
    greeting = talk.server.data_to_send()
    talk.client.receive_data(greeting)
    if together:
        talk.say(False, SWITCH + greeting)
    else:
        talk.say(False, SWITCH)
        talk.say(False, greeting)
    talk.flush()
    talk.answer(1, 207, b"x" * 3)
    talk.answer(talk.ask("/1"), 208, b"x" * 4)

    assert {key for key, *_ in kernel.source.walked} == {talk.socket.key}
    received, sent = kernel.source.walked[-1][1:]
    assert (received, sent) == (talk.socket.received, talk.socket.sent)
    spans = [attributes(span) for span in kernel.spans()]
    target = "url.full" if client else "url.path"
    assert [(a[target], a["http.response.status_code"], a["http.response.body.size"]) for a in spans] == [
        (("http://h" if client else "") + f"/{i}", 207 + i, 3 + i) for i in range(2)
    ]
    assert [a["network.protocol.version"] for a in spans] == ["2", "2"]
    balanced(kernel)


def test_an_upgrade_that_is_not_taken_stays_http_1() -> None:
    """As java.net.http asks of every server."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for i in range(2):
        socket.receive(UPGRADE % i).send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    spans = kernel.spans()
    assert paths(spans) == ["/0", "/1"]
    assert [attributes(span)["network.protocol.version"] for span in spans] == ["1.1", "1.1"]


def test_a_connection_met_midway_says_what_it_cannot_know() -> None:
    """What stands in tables from before is unknown and named; what comes as literals is known, and its later uses."""
    kernel = FakeKernel()
    talk = Talk(kernel, joined=True, greet=False)
    talk.muted = True
    talk.greet()
    for _ in range(3):
        talk.answer(talk.ask("/old", headers=[("user-agent", "old/1")]), 200, headers=[("x-old", "1")])
    talk.muted = False
    for path in ("/old", "/new", "/new"):
        talk.answer(talk.ask(path, headers=[("user-agent", "old/1")]), 404, b"x")
    talk.socket.close()

    old, *new = [attributes(span) for span in kernel.spans()]
    assert "url.path" not in old
    assert ":path" in str(old["otelbpf.unknown"])
    assert [a["url.path"] for a in new] == ["/new", "/new"]
    assert all("user_agent.original" not in a for a in (old, *new))
    assert [a["http.response.status_code"] for a in (old, *new)] == [404] * 3
    balanced(kernel)


def test_a_source_is_told_where_frames_begin_where_it_cannot_know() -> None:
    """Met midway, and again when the framing was lost and found; several times, because it is further by then."""
    kernel = FakeKernel()
    talk = Talk(kernel, joined=True, greet=False)
    talk.muted = True
    talk.greet()
    talk.muted = False
    for _ in range(20):
        talk.answer(talk.ask("/a"), body=b"x")
    socket = talk.socket
    assert len(kernel.source.walked) == ASKED
    talk.how = {"lose": True}
    talk.answer(talk.ask("/b"), body=b"x")
    talk.how = {}
    talk.answer(talk.ask("/c"), body=b"x")
    kernel.wait()
    for _ in range(20):
        talk.answer(talk.ask("/c"), body=b"x")

    assert len(kernel.source.walked) == 2 * ASKED
    assert {key for key, *_ in kernel.source.walked} == {socket.key}
    assert [offsets for _, *offsets in kernel.source.walked] == sorted(o for _, *o in kernel.source.walked)


@settings(deadline=None)
@given(st.data())
def test_wherever_it_is_met_nothing_is_invented(data: st.DataObject) -> None:
    """Joined at any record, with any record lost: paths and statuses are right or absent."""
    records = recorded(cut=data.draw(st.sampled_from([0, 50])))
    begin = data.draw(st.integers(0, len(records) - 1))
    kernel = FakeKernel()
    socket = kernel.accept(joined=True)
    for from_client, piece in records[begin:]:
        play(piece, from_client, None, socket)
    socket.close()

    whole = {path: status for path, status, _ in WHOLE}
    for span in kernel.spans():
        found = attributes(span)
        path, status = found.get("url.path"), found.get("http.response.status_code")
        if path is not None and status is not None:
            assert status == whole[str(path)]
        assert path in (None, *whole)
    balanced(kernel)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_strangers_bytes_are_bounded_and_never_fail(data: st.DataObject) -> None:
    """Conversations with pieces cut out, doubled and replaced; other connections go on."""
    kernel = FakeKernel(max_open_exchanges=3)
    socket, other = kernel.accept(peer_port=1), kernel.accept(peer_port=2)
    for from_client, piece in recorded():
        at = data.draw(st.integers(0, len(piece)))
        noise = data.draw(st.binary(min_size=1, max_size=12))
        ways = [piece, piece, piece[:at], piece[:at] + noise + piece[at:], piece * 2, b""]
        mangled = data.draw(st.sampled_from(ways))
        if mangled:
            play(mangled, from_client, None, socket, captured=data.draw(st.sampled_from([None, None, 5])))
    socket.close()
    other.receive(b"GET /fine HTTP/1.1\r\nHost: h\r\n\r\n").send(b"HTTP/1.1 204 No\r\n\r\n")

    assert "/fine" in paths(kernel.spans())
    balanced(kernel)


def test_what_is_no_http_2_behind_its_preface_is_left_alone() -> None:
    """However much of it there is."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    for _ in range(4000):
        socket.receive(b"\x2a" * 100).send(b"\xff" * 100)

    assert kernel.source.muted == [socket.key]
    assert kernel.spans() == []
    balanced(kernel)


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_who_asks_shows_where_nobody_knows_it(client: bool, method: str) -> None:
    """Plain text of TLS met midway, whose socket is not known: the header blocks tell, a request's by its scheme at
    least, whatever else stands in tables from before."""
    kernel = FakeKernel()
    talk = Talk(None, greet=False)
    talk.greet()
    told = []
    for _ in range(3):
        begin = len(talk.told)
        talk.answer(talk.ask("/same", method=method), 201, b"y" * 7)
        told = talk.told[begin:]
    session = FakeSession(kernel, pid=100, joined=True)
    for from_client, data in told:
        (session.write if from_client is client else session.read)(data)
    session.free()
    kernel.wait()

    (span,) = kernel.spans()
    assert span.kind is (Kind.CLIENT if client else Kind.SERVER)
    assert attributes(span)["http.response.body.size"] == 7
