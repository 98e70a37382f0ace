"""Laws of the whole: nothing a stranger sends, and no record that is missing, makes it fail, lie or lose count."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.events import encode
from otelbpf.events.wire import Unseen as Why
from otelbpf.telemetry.ledger import Lost
from tests.batches import SIZES, in_batches, told
from tests.fake_kernel import FakeKernel, attributes
from tests.fake_tls import FakeSession
from tests.h2_talk import Talk

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\nabc"

VALID = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    b"wiki",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwiki",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n0\r\nT: t\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A valid message with a bit of it cut, doubled or replaced."""
    data = draw(st.sampled_from(VALID))
    at = draw(st.integers(0, len(data)))
    what = draw(st.sampled_from(["keep", "cut", "insert", "double"]))
    if what == "cut":
        return data[:at] or b"x"
    if what == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=6)) + data[at:]
    return data * 2 if what == "double" else data


ACTIONS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["receive", "send", "end", "close", "reset", "wait"]),
    mangled(),
    st.sampled_from([None, None, None, 0, 1, 20]),
    st.sampled_from([Why.BUDGET, Why.SENDFILE]),
    st.booleans(),
)


Action = tuple[int, str, bytes, int | None, Why, bool]


def play(kernel: FakeKernel, actions: list[Action], *, joined: bool) -> None:
    """Four sockets, two of them the ends of one connection, mangled messages, cut copies, lost records, any end."""
    sockets = [kernel.accept(joined=joined), kernel.connect(joined=joined), *kernel.pair()]
    over: set[int] = set()
    for index, what, data, captured, why, lose in actions:
        socket = sockets[index]
        if index in over:
            continue
        if what == "receive":
            socket.receive(data, captured=captured, why=why, lose=lose)
        elif what == "send":
            socket.send(data, captured=captured, why=why, lose=lose)
        elif what == "end":
            socket.end_sending()
            over.add(index)
        elif what == "wait":
            kernel.wait()
        else:
            socket.close(error=104 if what == "reset" else 0)
            over.add(index)
    for index, socket in enumerate(sockets):
        if index not in over:
            socket.still_open()


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=25), st.booleans())
def test_whatever_is_said_nothing_fails_and_everything_is_on_the_account(actions: list[Action], joined: bool) -> None:
    """However the conversations are mangled."""
    kernel = FakeKernel()
    play(kernel, actions, joined=joined)

    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0
    assert len(kernel.spans()) == ledger.spans


@given(st.binary(max_size=200))
def test_records_that_are_none_are_counted(record: bytes) -> None:
    """Bytes that no kernel wrote."""
    kernel = FakeKernel()
    before = kernel.ledger.records.total()
    kernel.put(record)

    assert kernel.ledger.records.total() == before + 1


@settings(deadline=None)
@given(st.data())
def test_a_lost_record_spoils_only_its_own_connection(data: st.DataObject) -> None:
    """Whichever record of the first connection is missing, the second one's spans are all there and right."""
    recorder = FakeKernel()
    one, two = recorder.accept(peer_port=1), recorder.accept(peer_port=2)
    for i in range(4):
        for socket in (one, two):
            socket.receive(GET % i).send(ANSWER % (200 + i))
    records = recorder.records[1:]
    drop = data.draw(st.sets(st.integers(0, len(records) - 1), max_size=4))
    mine = [i for i in drop if records[i][16:32] == one.key]

    kernel = FakeKernel()
    for i, record in enumerate(records):
        if i not in mine:
            kernel.put(record)
    spans = [attributes(span) for span in kernel.spans()]

    assert [(a["url.path"], a["http.response.status_code"]) for a in spans if a["client.port"] == 2] == [
        (f"/{i}", 200 + i) for i in range(4)
    ]
    for found in spans:
        assert found["url.path"] == f"/{found['http.response.status_code'] - 200}"  # type: ignore[operator]


def test_thousands_of_half_open_connections_are_bounded() -> None:
    """Each sends the start of a head and no more; the table holds what it may, the rest is lost by name."""
    kernel = FakeKernel(max_connections=100)
    for i in range(5000):
        kernel.accept(peer_port=i + 1).receive(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")

    assert kernel.pipeline.open_connections == 100
    assert kernel.ledger.connections["evicted"] == 4900
    assert kernel.ledger.spans_lost == {Lost.EVICTED: 4900}
    assert kernel.finish().requests_balance() == 0


@pytest.mark.parametrize(
    "head",
    [
        "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /?%d=1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://%d/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: %d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: %d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: %d\r\n\r\n",
    ],
)
def test_what_is_remembered_of_requests_is_bounded_in_bytes(head: str) -> None:
    """A client whose requests are long and each another one: paths, keys, hosts of 4000 digits."""
    kernel = FakeKernel()
    socket = kernel.accept()
    for number in range(600):
        if number == 100:
            tracemalloc.start()
        socket.receive((head % (10**4000 + 1000 * len(head) + number)).encode()).send(ANSWER % 200)
        kernel.spans()
        kernel.records.clear()
    grown_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kernel.ledger.spans == 600
    assert grown_bytes < 500_000  # a quarter of what 500 of them would take


def test_the_same_records_give_the_same_spans() -> None:
    """Ids too, with the same seed."""
    kernel = FakeKernel()
    kernel.process(100, "/usr/sbin/nginx")
    socket = kernel.accept()
    for i in range(3):
        socket.receive(GET % i).send(ANSWER % 200)
    first = kernel.spans()

    again = FakeKernel()
    again.pipeline.feed(kernel.records[1:])

    def plain(spans: list[object]) -> list[str]:
        return [str(span).split("resource=")[0] for span in spans]

    assert plain(again.spans()) == plain(first)  # type: ignore[arg-type]
    assert dict(first[0].resource.attributes)["service.name"] == "nginx"


def test_time_is_unix_time_by_the_clock_records() -> None:
    """A clock that is set forward moves the spans behind it."""
    kernel = FakeKernel()
    socket = kernel.accept()
    kernel.put(encode.encode_clock(time_ns=kernel.now_ns, offset_ns=5))
    socket.receive(GET % 1).send(ANSWER % 200)

    (span,) = kernel.spans()
    assert span.end_ns == kernel.now_ns + 5


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=25), st.booleans(), st.sampled_from(SIZES), st.sampled_from([1, 2, 100]))
def test_it_is_all_the_same_how_many_records_come_at_once(
    actions: list[Action], joined: bool, size: int, most: int
) -> None:
    """Spans are made of many exchanges in a row: they say what they would have said one at a time. A table too small
    for the connections lets some give way in between."""
    kernel = FakeKernel(max_connections=most)
    play(kernel, actions, joined=joined)
    ledger = kernel.finish()
    spans, of_batches = in_batches(kernel.records, size, max_connections=most)

    assert told(spans) == told(kernel.spans())
    assert (of_batches.spans, of_batches.spans_lost) == (ledger.spans, ledger.spans_lost)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("most", [2, 100])
def test_what_changes_in_between_holds_for_what_comes_later(size: int, most: int) -> None:
    """Processes that become others, connections that end or give way, TLS whose socket is found, between exchanges of
    HTTP/1 and HTTP/2."""
    kernel = FakeKernel(max_connections=most)
    client, server = kernel.pair()
    talk = Talk(kernel, port=40001)
    session, carrier = FakeSession(kernel, pid=100, joined=True), kernel.accept(peer_port=40002)
    for turn in range(6):
        numbers = [talk.ask(f"/h2/{turn}/{stream}") for stream in range(3)]
        client.send(GET % turn)
        server.receive(GET % turn).send(ANSWER % 200)
        for number in numbers:
            talk.answer(number, 200, b"x")
        client.receive(ANSWER % 200)
        session.read(GET % turn).write(ANSWER % 200)
        if turn == 3:
            session.bind(carrier)
        kernel.process(100, f"/usr/bin/server-{turn}")
    for number in range(3):
        kernel.accept(peer_port=50000 + number, joined=True).receive(GET % number).send(ANSWER % 200)
    kernel.accept(peer_port=50010).receive(GET % 1).close(error=104)
    kernel.wait()
    client.close()
    server.close()
    kernel.finish()
    spans, _ = in_batches(kernel.records, size, max_connections=most)

    assert told(spans) == told(kernel.spans())
    assert len({span.resource.attributes for span in spans}) >= 6
