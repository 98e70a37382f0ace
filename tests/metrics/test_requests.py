"""Requests open at once, and how long they lay in their sockets, per service."""

from __future__ import annotations

import pytest

from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.requests import WINDOW_NS
from tests.fake_kernel import FakeKernel
from tests.h2_talk import Talk
from tests.metrics.reading import Row, row, values

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
SERVED, ASKED = row("stock", otelbpf_request_role="server"), row("shop", otelbpf_request_role="client")


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.process(200, "/bin/shop")
    kernel.process(100, "/bin/stock")
    kernel.process(101, "/bin/stock")
    return kernel


def read(kernel: FakeKernel, name: str) -> dict[Row, int | float | Histogram]:
    return values(kernel.pipeline.measures.snapshot(), f"otelbpf.{name}")


def waits(kernel: FakeKernel) -> Histogram:
    histogram = read(kernel, "socket.wait.duration")[SERVED]
    assert isinstance(histogram, Histogram)
    return histogram


def test_the_most_of_a_service_is_that_of_all_its_processes_together(kernel: FakeKernel) -> None:
    sockets = [kernel.accept(pid=100 + number % 2, peer_port=40000 + number) for number in range(7)]
    for socket in sockets:
        socket.receive(GET)
    assert (read(kernel, "request.open"), read(kernel, "request.open.max")) == ({SERVED: 7}, {SERVED: 7})
    for socket in sockets:
        socket.send(OK)
    for socket in sockets:
        socket.receive(GET).send(OK)

    assert (read(kernel, "request.open"), read(kernel, "request.open.max")) == ({SERVED: 0}, {SERVED: 7})


def test_the_most_is_forgotten_after_two_windows(kernel: FakeKernel) -> None:
    for number in range(3):
        kernel.accept(peer_port=40000 + number).receive(GET).send(OK)
    pair = [kernel.accept(peer_port=50000 + number).receive(GET) for number in range(2)]
    kernel.wait(WINDOW_NS)
    pair[0].send(OK)
    assert read(kernel, "request.open.max") == {SERVED: 2}
    kernel.wait(WINDOW_NS)
    assert read(kernel, "request.open.max") == {SERVED: 2}
    kernel.wait(WINDOW_NS)
    assert read(kernel, "request.open.max") == {SERVED: 1}


def test_a_client_has_its_own(kernel: FakeKernel) -> None:
    client = kernel.connect().send(GET)
    assert read(kernel, "request.open") == {ASKED: 1}
    client.receive(OK)
    assert read(kernel, "request.open") == {ASKED: 0}
    assert read(kernel, "socket.wait.duration") == {}


def test_pipelined_requests_are_open_together(kernel: FakeKernel) -> None:
    socket = kernel.accept().receive(GET * 5)
    assert read(kernel, "request.open") == {SERVED: 5}
    socket.send(OK * 5)

    assert (read(kernel, "request.open"), read(kernel, "request.open.max")) == ({SERVED: 0}, {SERVED: 5})


@pytest.mark.parametrize("how", ["closed", "reset", "lost", "end", "evicted"])
def test_whatever_becomes_of_it_it_is_not_open_afterwards(kernel: FakeKernel, how: str) -> None:
    socket = kernel.accept().receive(GET)
    match how:
        case "closed":
            socket.close()
        case "reset":
            socket.close(error=104)
        case "lost":
            socket.send(b"HTTP/1.1 200 OK\r\n", lose=True).send(b"x" * 10)
            kernel.wait(WINDOW_NS)
        case "end":
            socket.still_open()
            kernel.finish()
        case "evicted":
            for connection in kernel.pipeline._tracker:
                kernel.pipeline._on_evicted(connection)

    assert read(kernel, "request.open") == {SERVED: 0}


def test_streams_of_one_connection(kernel: FakeKernel) -> None:
    talk = Talk(kernel)
    numbers = [talk.ask(f"/{number}") for number in range(11)]
    opened = {service: value for (service, _), value in read(kernel, "request.open").items()}
    for number in numbers[:4]:
        talk.answer(number)

    left = {service: value for (service, _), value in read(kernel, "request.open").items()}
    assert (set(opened.values()), set(left.values())) == ({11}, {7})


@pytest.mark.parametrize(("waited", "seconds"), [(1, 0.0), (200_001, 0.2), (-200_001, 0.2)])
def test_the_wait_of_a_request_is_that_of_its_first_byte(kernel: FakeKernel, waited: int, seconds: float) -> None:
    kernel.accept().receive(GET, waited=waited).send(OK)

    assert (waits(kernel).count, waits(kernel).total) == (1, seconds)
    assert read(kernel, "socket.wait.unknown") == {SERVED: 0}


def test_a_head_that_was_read_in_parts_waited_as_long_as_its_first(kernel: FakeKernel) -> None:
    kernel.accept().receive(GET[:4], waited=-5001).receive(GET[4:], waited=7001).send(OK)

    assert (waits(kernel).count, waits(kernel).total) == (1, 0.005)


@pytest.mark.parametrize(("waited", "known", "unknown"), [(5001, 3, 0), (-5001, 1, 2), (0, 0, 3)])
def test_requests_behind_the_first_of_a_call(kernel: FakeKernel, waited: int, known: int, unknown: int) -> None:
    kernel.accept().receive(GET * 3, waited=waited).send(OK * 3)

    assert waits(kernel).count == known
    assert waits(kernel).total == pytest.approx(known * 0.005)
    assert read(kernel, "socket.wait.unknown") == {SERVED: unknown}


def test_a_process_that_becomes_another_program(kernel: FakeKernel) -> None:
    first = kernel.accept().receive(GET)
    kernel.process(100, "/bin/other", time_ns=kernel.tick())
    kernel.accept(peer_port=50000).receive(GET).send(OK)
    first.send(OK)

    assert read(kernel, "request.open") == {SERVED: 0, row("other", otelbpf_request_role="server"): 0}


def test_services_beyond_the_bound_count_together() -> None:
    kernel = FakeKernel()
    kernel.pipeline.measures.requests._max_services = 2
    for pid in range(100, 105):
        kernel.process(pid, f"/bin/s{pid}")
        kernel.accept(pid=pid, peer_port=40000 + pid).receive(GET)

    found = read(kernel, "request.open")
    assert {service: value for (service, _), value in found.items()} == {"s100": 1, "s101": 1, "": 3}
