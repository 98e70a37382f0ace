"""Requests that are none by the rules: what is told of them is true, and nobody else has their answers."""

from __future__ import annotations

import random

import pytest

from otelbpf.exchanges.pairing import SILENCE_NS
from otelbpf.telemetry.ledger import Lost
from otelbpf.tracing.span import Kind, Status
from tests.fake_kernel import BOOT_NS, STEP_NS, FakeKernel, FakeSocket, attributes

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NO = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
HEADER = b"GET /%d HTTP/1.1\r\nHost : h\r\n\r\n"
SPACE = b"GET /%d a HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNK = b"POST /%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"


def balanced(kernel: FakeKernel) -> None:
    """Nothing is in no column."""
    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0


def talk(kernel: FakeKernel, *turns: bytes, serving: bool = True) -> FakeSocket:
    """A fresh connection, both sides in turn, the client first, and its end."""
    socket = kernel.accept() if serving else kernel.connect()
    for number, data in enumerate(turns):
        (socket.receive if serving is (number % 2 == 0) else socket.send)(data)
    return socket.close()


@pytest.mark.parametrize("serving", [True, False])
def test_a_request_with_a_malformed_header_is_a_span_by_its_first_line(serving: bool) -> None:
    """Of the headers nothing is believed."""
    kernel = FakeKernel()
    talk(kernel, HEADER % 1, NO, serving=serving)

    (span,) = kernel.spans()
    found = attributes(span)
    assert (span.name, span.kind) == ("GET", Kind.SERVER if serving else Kind.CLIENT)
    assert (found["http.request.method"], found["http.response.status_code"]) == ("GET", 400)
    assert str(found["url.path" if serving else "url.full"]).endswith("/1")
    assert found["otelbpf.request.incomplete"] == "malformed"
    assert "http.request.body.size" not in found
    assert found["http.response.body.size"] == 2
    assert (span.status, found.get("error.type")) == ((Status.UNSET, None) if serving else (Status.ERROR, "400"))
    assert span.end_ns - span.start_ns == STEP_NS
    balanced(kernel)


@pytest.mark.parametrize("serving", [True, False])
@pytest.mark.parametrize("before", [(), (GET % 0, OK)])
@pytest.mark.parametrize("garbage", [SPACE % 1, b"\x00\x01\x02", b"GET /\r\n\r\n"])
def test_what_has_no_first_line_and_is_refused_is_a_request_without_a_method(
    garbage: bytes, before: tuple[bytes, ...], serving: bool
) -> None:
    """`_OTHER`, no path, no version: on a new connection, and behind other requests."""
    kernel = FakeKernel()
    talk(kernel, *before, garbage, NO, serving=serving)

    span = kernel.spans()[-1]
    found = attributes(span)
    assert span.name == "HTTP"
    assert (found["http.request.method"], found["http.response.status_code"]) == ("_OTHER", 400)
    assert not {"url.path", "url.full", "http.request.method_original", "network.protocol.version"} & set(found)
    assert found["otelbpf.request.incomplete"] == "malformed"
    assert kernel.ledger.requests_begun == kernel.ledger.spans == 1 + len(before) // 2
    balanced(kernel)


def test_garbage_in_several_calls_is_one_request_from_its_first_byte() -> None:
    """And its last byte is the last before the answer."""
    kernel = FakeKernel()
    socket = kernel.accept()
    begin_ns = kernel.now_ns
    socket.receive(b"GET /a b ").receive(b"HTTP/1.1\r\n").receive(bytes(50_000), captured=8192).send(NO).close()

    (span,) = kernel.spans()
    assert (span.start_ns, span.end_ns) == (BOOT_NS + begin_ns + STEP_NS, BOOT_NS + begin_ns + 4 * STEP_NS)
    balanced(kernel)


def test_a_malformed_request_has_the_answer_behind_those_that_are_owed() -> None:
    """Pipelined, in one call: those before it lose nothing."""
    kernel = FakeKernel()
    kernel.accept().receive(GET % 0 + GET % 1 + HEADER % 2 + GET % 3).send(OK).send(OK).send(NO).close()

    found = [attributes(span) for span in kernel.spans()]
    assert [(f["url.path"], f["http.response.status_code"]) for f in found] == [("/0", 200), ("/1", 200), ("/2", 400)]
    balanced(kernel)


def test_a_body_that_breaks_its_framing_is_answered() -> None:
    """The head is as good as any."""
    kernel = FakeKernel()
    talk(kernel, CHUNK % 1, NO)

    (span,) = kernel.spans()
    found = attributes(span)
    assert (found["url.path"], found["server.address"], found["http.response.status_code"]) == ("/1", "h", 400)
    assert found["otelbpf.request.incomplete"] == "malformed"
    balanced(kernel)


@pytest.mark.parametrize(
    ("turns", "lost"),
    [
        ((SPACE % 1, OK), {}),  # a new connection: nobody says that this was a request
        ((GET % 0, OK, SPACE % 1, OK), {Lost.UNPARSABLE: 1}),
        ((GET % 0, OK, SPACE % 1), {Lost.UNPARSABLE: 1}),
        ((GET % 0, OK, b"HEAD /a b HTTP/1.1\r\n\r\n", NO), {Lost.UNPARSABLE: 1}),
        ((b"HEAD /1 HTTP/1.1\r\nHost : h\r\n\r\n", NO), {Lost.UNPARSABLE: 1}),
        ((b"*1\r\n$4\r\nPING\r\n", b"-ERR no\r\n", b"*1\r\n$4\r\nPING\r\n", b"HTTP/1.1 400 No\r\n\r\n"), {}),
    ],
)
def test_what_cannot_be_told_for_certain_is_no_span(turns: tuple[bytes, ...], lost: dict[Lost, int]) -> None:
    """A server understood what was none, nobody answered, or who speaks what is not known."""
    kernel = FakeKernel()
    talk(kernel, *turns)

    assert [attributes(span)["url.path"] for span in kernel.spans()] == ["/0"] * (turns[0] == GET % 0)
    assert kernel.ledger.spans_lost == lost
    balanced(kernel)


def test_a_request_by_its_first_line_that_nobody_answers_is_an_error() -> None:
    """The server closes: many do, without a word."""
    kernel = FakeKernel()
    talk(kernel, HEADER % 1)

    (span,) = kernel.spans()
    found = attributes(span)
    assert (found["url.path"], found["error.type"]) == ("/1", "connection_closed")
    assert found["otelbpf.request.incomplete"] == "malformed"
    balanced(kernel)


def test_a_refusal_long_after_is_not_that_of_what_a_connection_began_with() -> None:
    """A request was believed in between."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(SPACE % 0)
    kernel.tick(SILENCE_NS)
    socket.receive(GET % 1).send(OK)
    kernel.wait()
    socket.receive(b"HEAD /a b HTTP/1.1\r\n\r\n").send(NO).close()

    assert [attributes(span)["url.path"] for span in kernel.spans()] == ["/1"]
    assert kernel.ledger.spans_lost == {Lost.UNPARSABLE: 1}
    balanced(kernel)


def test_behind_a_malformed_request_the_next_one_is_believed_after_a_silence() -> None:
    """A server that keeps the connection: more requests may have been in what was not understood."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(HEADER % 1).send(NO).receive(GET % 2).send(OK)
    kernel.tick(SILENCE_NS)
    socket.receive(GET % 3).send(OK).receive(GET % 4).send(OK).close()

    assert [attributes(span)["url.path"] for span in kernel.spans()] == ["/1", "/3", "/4"]
    assert kernel.ledger.spans_lost == {Lost.JOINED_MIDWAY: 1}
    balanced(kernel)


@pytest.mark.parametrize("serving", [True, False])
@pytest.mark.parametrize("tolerant", [True, False])
@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_no_loss_gives_a_malformed_request_the_answer_of_another(loss: float, tolerant: bool, serving: bool) -> None:
    """Pipelined and not, cut and lost: the n-th answer has a status of its own. A tolerant server goes on."""
    told = 0
    for seed in range(250):
        rng = random.Random(seed)
        kernel = FakeKernel()
        socket = kernel.accept() if serving else kernel.connect()
        ask, answer = (socket.receive, socket.send) if serving else (socket.send, socket.receive)
        begun: dict[int, int] = {}
        asked = answered = 0
        refusing = False
        while answered < 8:
            if asked < 8 and not (refusing and not tolerant) and (asked == answered or rng.random() < 0.4):
                bad = rng.random() < 0.3
                request = rng.choice([HEADER, SPACE, CHUNK] if bad else [GET]) % asked
                refusing = refusing or bad
                begun[kernel.now_ns + STEP_NS] = asked
                at = rng.choice([len(request), rng.randint(1, len(request) - 1)])
                for part in (request[:at], request[at:]):
                    if part:
                        ask(part, lose=rng.random() < loss)
                asked += 1
            elif answered < asked:
                answer(b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\nx" % (400 + answered), lose=rng.random() < loss)
                answered += 1
            else:
                break
        socket.close()
        for span in kernel.spans():
            found = attributes(span)
            status = found.get("http.response.status_code")
            if status is not None:
                assert begun[span.start_ns - BOOT_NS] == int(str(status)) - 400, seed
                told += found.get("otelbpf.request.incomplete") == "malformed"
        balanced(kernel)
    assert told > 20
