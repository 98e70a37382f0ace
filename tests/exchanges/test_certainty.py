"""What is not certain is lost by name: no response is given to a request that it does not answer, no error invented."""

from __future__ import annotations

import pytest

from otelbpf.events.wire import Flag, TcpState
from otelbpf.exchanges.pairing import SILENCE_NS, TURNS
from otelbpf.exchanges.session import MAX_EARLY
from otelbpf.telemetry.ledger import Lost
from otelbpf.tracing.span import Span, Status
from tests.fake_kernel import BOOT_NS, FakeKernel, FakeSocket, attributes

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\nx"


class LateKernel(FakeKernel):
    """Keeps the records, so that they can be told in another order than they were made in."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        super().__init__()

    def put(self, record: bytes) -> None:
        self.kept.append(record)

    def tell(self, *order: int) -> FakeKernel:
        """The records to a kernel of their own: those named first, in this order, then the rest."""
        rest = [number for number in range(len(self.kept)) if number not in order]
        told = FakeKernel()
        for number in (*order, *rest):
            told.put(self.kept[number])
        return told


def take_turns(socket: FakeSocket) -> None:
    """A client that waits for every answer is known by it."""
    for _ in range(TURNS):
        socket.receive(GET % 0).send(OK % 200)


def answered(spans: list[Span]) -> list[tuple[object, object]]:
    """Path and status of each span."""
    found = [attributes(span) for span in spans]
    return [(f.get("url.path") or str(f["url.full"])[len("http://h") :], f["http.response.status_code"]) for f in found]


def balanced(kernel: FakeKernel) -> None:
    """Nothing is in no column."""
    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0


@pytest.mark.parametrize(("first", "rest"), [(b"P", b"UT"), (b"tail of a body", b"PUT")])
def test_what_a_joined_connection_begins_with_is_no_part_of_a_method(first: bytes, rest: bytes) -> None:
    """The first bytes of a method were missed, or the end of a body stands before it."""
    kernel = FakeKernel()
    socket = kernel.accept(joined=True)
    if rest == b"PUT":
        socket.receive(first[-4:])
    socket.receive(rest + b" /1 HTTP/1.1\r\nHost: h\r\n\r\n").send(OK % 201)
    socket.receive(GET % 2).send(OK % 202)
    kernel.wait()

    assert [span.name for span in kernel.spans()] == (["GET /{id}"] if rest == b"UT" else ["PUT /{id}", "GET /{id}"])
    balanced(kernel)


def test_an_answer_to_a_lost_request_is_not_that_of_the_next_one() -> None:
    """The next request was recorded before it, on another CPU."""
    kernel = LateKernel()
    socket = kernel.accept()
    take_turns(socket)
    before = len(kernel.kept)
    socket.receive(b"PUT /1 HTTP/1.1\r\nHost: h\r\n", lose=True).receive(b"\r\n").send(OK % 201)
    socket.receive(GET % 2).send(OK % 202)
    for number in (3, 4):
        kernel.tick(SILENCE_NS)
        socket.receive(GET % number).send(OK % (200 + number))
    told = kernel.tell(*range(before), before, before + 2, before + 1)

    assert answered(told.spans()) == [("/0", 200)] * TURNS
    told.wait(4 * SILENCE_NS)
    assert answered(told.spans()) == [("/4", 204)]
    assert told.ledger.spans_lost == {Lost.JOINED_MIDWAY: 2}
    balanced(told)


def test_out_of_step_a_request_whose_answer_was_recorded_before_it_is_lost() -> None:
    """Were it believed, it would be given the next answer, which here is recorded early too."""
    kernel = LateKernel()
    socket = kernel.connect(joined=True)
    for i in (1, 2, 3):
        socket.send(GET % i).receive(OK % (200 + i))
    told = kernel.tell(0, 2, 1, 4, 3)
    told.wait()

    assert answered(told.spans()) == [("/3", 203)]
    assert told.ledger.spans_lost == {Lost.JOINED_MIDWAY: 2}


@pytest.mark.parametrize("joined", [False, True])
def test_no_answer_is_an_error_only_where_none_was_passed_over(joined: bool) -> None:
    """A connection joined midway: its first answer may have been recorded before its request."""
    kernel = FakeKernel()
    kernel.accept(joined=joined).receive(GET % 1).close(error=104)

    assert [attributes(span)["error.type"] for span in kernel.spans()] == ([] if joined else ["ECONNRESET"])
    assert kernel.ledger.spans_lost == ({Lost.JOINED_MIDWAY: 1} if joined else {})
    balanced(kernel)


def test_an_answer_to_nobody_stays_nobodys() -> None:
    """A 408 to an idle connection whose body ends after a request was sent all the same (RFC 9110 section 15.5.9)."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 1).send(OK % 201)
    socket.send(b"HTTP/1.1 408 X\r\nContent-Length: 2\r\n\r\nx")
    kernel.wait()
    socket.receive(GET % 2).send(b"x").close()

    assert answered(kernel.spans()) == [("/1", 201)]
    assert kernel.ledger.spans_lost == {Lost.JOINED_MIDWAY: 1}
    balanced(kernel)


def test_a_second_answer_does_not_prolong_an_exchange() -> None:
    """The first came while its request was still being sent, and the rest of that is late: so is the next request."""
    kernel = LateKernel()
    socket = kernel.accept()
    socket.receive(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na").send(OK % 201)
    socket.receive(b"b").receive(GET % 2).send(OK % 202)
    socket.receive(GET % 3).send(OK % 203)
    told = kernel.tell(0, 1, 2, 3, 6)
    told.wait()

    assert answered(told.spans()) == [("/3", 203)]
    assert told.ledger.spans_lost == {Lost.JOINED_MIDWAY: 2}


def test_a_request_that_may_be_in_what_was_not_copied_takes_its_answer_with_it() -> None:
    """The first request is answered before it ends, so the second one is among the bytes beyond the budget."""
    kernel = FakeKernel()
    socket = kernel.accept()
    socket.receive(b"POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").send(OK % 201)
    body = b"40\r\n" + b"b" * 64 + b"\r\n0\r\n\r\n"
    socket.receive(body, captured=4).receive(GET % 2, captured=0).send(OK % 202)
    socket.receive(GET % 3).send(OK % 203)
    kernel.wait()

    assert answered(kernel.spans()) == [("/1", 201), ("/3", 203)]
    balanced(kernel)


def test_a_request_behind_a_head_that_is_too_long_is_not_believed_before_its_answer() -> None:
    """The end of the first one is inferred; the answer to the second is recorded before it."""
    kernel = LateKernel()
    socket = kernel.accept()
    socket.receive(b"GET /1 HTTP/1.1\r\nHost: h\r\nCookie: " + b"c" * 66000 + b"\r\n\r\n").send(OK % 201)
    for i in (2, 3):
        socket.receive(GET % i).send(OK % (200 + i))
    told = kernel.tell(0, 1, 2, 3, 5, 4, 7, 6)

    assert answered(told.spans()) == [("/1", 201)]
    balanced(told)


def test_an_answer_in_many_pieces_stays_in_order_while_it_waits() -> None:
    """More pieces than may wait for the request: then none waits, and none is taken before another."""
    kernel = FakeKernel()
    socket = kernel.connect()
    socket.send(GET % 1).receive(OK % 201)
    socket.receive(b"HTTP/1.1 202 X\r\nContent-Length: %d\r\n\r\n" % (MAX_EARLY + 1))
    for _ in range(MAX_EARLY + 1):
        socket.receive(b"b")
    socket.send(GET % 2)
    socket.send(GET % 3).receive(OK % 203).close()

    assert answered(kernel.spans()) == [("/1", 201)]
    balanced(kernel)


@pytest.mark.parametrize("error", [0, 104])
def test_a_whole_answer_to_a_request_that_never_ended_is_no_error_of_the_connection(error: int) -> None:
    """413, and the rest of the upload is not read: the connection ends without a FIN, or with a reset."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc")
    socket.send(OK % 413)
    end_ns = kernel.now_ns
    socket.arrive(997)
    kernel.tick(1_000_000)
    socket.state = TcpState.CLOSE_WAIT
    socket.close(error=error)

    (span,) = kernel.spans()
    assert span.status is Status.UNSET
    assert span.end_ns == BOOT_NS + end_ns
    assert attributes(span)["otelbpf.request.incomplete"] == "closed"
    balanced(kernel)


def test_a_call_cut_by_no_more_than_its_tail_is_seen_whole() -> None:
    """The tail is the rest: the last chunk does not go missing between the two."""
    kernel = FakeKernel()
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    kernel.accept().receive(GET % 1).send(response, captured=len(response) - 3).close(error=104)

    (span,) = kernel.spans()
    assert attributes(span)["http.response.body.size"] == 3
    assert "error.type" not in attributes(span)
    assert kernel.ledger.unseen_bytes == {}
    balanced(kernel)


def test_a_connection_refused_after_it_had_sent_is_on_the_account() -> None:
    """TCP Fast Open (RFC 7413): the request went with the SYN, and nobody listens."""
    kernel = FakeKernel()
    socket = kernel.connect(joined=True)
    socket.flags &= ~Flag.JOINED
    socket.state = TcpState.SYN_SENT
    socket.send(GET % 1).close(error=111)

    (span,) = kernel.spans()
    assert attributes(span)["error.type"] == "ECONNREFUSED"
    assert kernel.ledger.connections["refused"] == 1
    assert kernel.pipeline.open_connections == 0
    balanced(kernel)


def test_a_request_stamped_after_its_answer_does_not_begin_after_it() -> None:
    """A send is stamped when its call returns; another thread may have read the answer by then."""
    kernel = LateKernel()
    socket = kernel.connect().receive(OK % 201)
    answered_ns = kernel.now_ns
    socket.send(GET % 1)
    told = kernel.tell()
    told.wait()
    (span,) = told.spans()

    assert attributes(span)["otelbpf.time_to_first_byte_ns"] == 0
    assert span.start_ns == answered_ns + BOOT_NS
    assert span.end_ns == kernel.now_ns + BOOT_NS


@pytest.mark.parametrize(
    ("request_lost", "answer_lost", "reason"),
    [
        ((False, True), (False, False), Lost.GAP_IN_BODY),
        ((False, False), (False, True), Lost.GAP_IN_BODY),
        ((False, False), (True, False), Lost.GAP_IN_HEAD),
    ],
)
def test_a_hole_is_named_after_where_it_is(
    request_lost: tuple[bool, bool], answer_lost: tuple[bool, bool], reason: Lost
) -> None:
    """Heads and bodies in calls of their own; the chunks that frame a body are lost, or the head of an answer."""
    kernel = FakeKernel()
    socket = kernel.accept()
    chunks = b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"0\r\n\r\n"
    socket.receive(b"POST /1 HTTP/1.1\r\nHost: h\r\n" + chunks[0], lose=request_lost[0])
    socket.receive(chunks[1], lose=request_lost[1]).receive(chunks[2])
    socket.send(b"HTTP/1.1 200 OK\r\n" + chunks[0], lose=answer_lost[0])
    socket.send(chunks[1], lose=answer_lost[1]).send(chunks[2]).close()

    assert answered(kernel.spans()) == []
    assert kernel.ledger.spans_lost == {reason: 1}
    balanced(kernel)
