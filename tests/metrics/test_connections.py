"""Connections counted per service and peer, from records as the kernel makes them."""

from __future__ import annotations

import pytest

from otelbpf.events.wire import TcpState
from otelbpf.metrics.histogram import Histogram
from tests.fake_kernel import SECOND_NS, FakeKernel
from tests.metrics.reading import Row, row, values

CLIENT, SERVER = "/bin/shop", "/bin/stock"
REMOTE = row("shop", role="client", server_address="10.0.0.1", server_port=80)


@pytest.fixture
def kernel() -> FakeKernel:
    """One with two programs."""
    kernel = FakeKernel()
    kernel.process(200, CLIENT)
    kernel.process(100, SERVER)
    return kernel


def read(kernel: FakeKernel, name: str) -> dict[Row, int | float | Histogram]:
    return values(kernel.pipeline.measures.snapshot(), f"otelbpf.connection.{name}")


def with_more(base: Row, **more: str) -> Row:
    return base[0], base[1] | row("", **more)[1]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (111, "refused"),
        (110, "timeout"),
        (104, "reset"),
        (113, "unreachable"),
        (101, "unreachable"),
        (1, "EPERM"),
        (0, "abandoned"),
    ],
)
def test_an_attempt_that_came_to_nothing(kernel: FakeKernel, error: int, reason: str) -> None:
    for _ in range(23):
        kernel.attempt().close(error=error)

    assert read(kernel, "attempts") == {REMOTE: 23}
    assert read(kernel, "failures") == {with_more(REMOTE, error_type=reason, phase="connect"): 23}
    assert read(kernel, "open") == {REMOTE: 0}
    assert read(kernel, "connect.duration") == {}


def test_how_long_connecting_took(kernel: FakeKernel) -> None:
    client = kernel.attempt()
    kernel.tick(30_000_000 - 1000)
    client.established(TcpState.SYN_SENT)
    kernel.wait()

    (histogram,) = read(kernel, "connect.duration").values()
    assert isinstance(histogram, Histogram)
    assert (histogram.count, histogram.total) == (1, 0.03)


def test_an_attempt_under_way_is_counted_before_it_has_an_end(kernel: FakeKernel) -> None:
    kernel.attempt()
    kernel.wait(2 * SECOND_NS)

    assert read(kernel, "attempts") == {REMOTE: 1}
    assert read(kernel, "failures") == {}


def test_both_ends_on_this_host_know_each_others_service(kernel: FakeKernel) -> None:
    client, server = kernel.pair()
    client.send(b"x" * 10)
    server.receive(b"x" * 10).send(b"y" * 5)
    client.receive(b"y" * 5)
    kernel.wait(2 * SECOND_NS)

    to_stock, from_shop = row("shop", role="client", peer="stock"), row("stock", role="server", peer="shop")
    assert read(kernel, "open") == {to_stock: 1, from_shop: 1}
    assert read(kernel, "accepted") == {from_shop: 1}
    client.close()
    server.close()
    assert read(kernel, "open") == {to_stock: 0, from_shop: 0}
    assert read(kernel, "io") == {
        with_more(to_stock, direction="transmit"): 10,
        with_more(to_stock, direction="receive"): 5,
        with_more(from_shop, direction="transmit"): 5,
        with_more(from_shop, direction="receive"): 10,
    }
    assert read(kernel, "failures") == {}


def test_a_client_that_leaves_before_its_peer_is_known_waits_for_it(kernel: FakeKernel) -> None:
    client, server = kernel.pair()
    client.send(b"x").close()
    assert read(kernel, "attempts") == {}
    server.receive(b"x").close()
    kernel.wait(1000)

    assert read(kernel, "attempts") == {row("shop", role="client", peer="stock"): 1}


def test_bytes_of_an_open_connection_are_counted_as_they_go_and_once(kernel: FakeKernel) -> None:
    client = kernel.connect()
    client.send(b"x" * 100)
    kernel.wait(2 * SECOND_NS)
    sent = with_more(REMOTE, direction="transmit")
    assert read(kernel, "io")[sent] == 100
    client.send(b"x" * 11)
    kernel.wait()
    assert read(kernel, "io")[sent] == 111
    client.close()
    assert read(kernel, "io")[sent] == 111


def test_what_the_kernel_says_at_the_end(kernel: FakeKernel) -> None:
    client = kernel.connect()
    client.retransmits, client.rtt_us, client.buffer_limited_ms, client.window_limited_ms = 7, 1500, 40, 250
    client.send(b"x").close(error=104)

    assert read(kernel, "retransmits") == {REMOTE: 7}
    (histogram,) = read(kernel, "rtt").values()
    assert isinstance(histogram, Histogram)
    assert (histogram.count, histogram.total) == (1, 0.0015)
    assert read(kernel, "send.stalled") == {
        with_more(REMOTE, cause="send_buffer"): 0.04,
        with_more(REMOTE, cause="receive_window"): 0.25,
    }
    assert read(kernel, "failures") == {with_more(REMOTE, error_type="reset", phase="open"): 1}


def test_an_accepted_connection_that_nobody_touched_is_nobodys(kernel: FakeKernel) -> None:
    kernel.accept().close(error=104)
    kernel.wait(2 * SECOND_NS)

    assert read(kernel, "accepted") == {}
    assert read(kernel, "uncounted") == {row("", reason="no_process"): 1, row("", reason="evicted"): 0}


def test_an_accepted_connection_that_was_only_closed_counts(kernel: FakeKernel) -> None:
    kernel.accept().close()

    assert read(kernel, "accepted") == {row("stock", role="server", client_address="10.0.0.2"): 1}


def test_a_connection_older_than_the_probes(kernel: FakeKernel) -> None:
    client = kernel.connect(joined=True)
    client.retransmits, client.rtt_us = 9, 700
    client.send(b"x" * 50)
    kernel.wait(2 * SECOND_NS)
    assert read(kernel, "open") == {REMOTE: 1}
    client.close()

    assert read(kernel, "open") == {REMOTE: 0}
    assert read(kernel, "attempts") == {}
    assert read(kernel, "io")[with_more(REMOTE, direction="transmit")] == 50
    assert read(kernel, "retransmits") == {REMOTE: 0}


def test_a_connection_still_open_at_the_end(kernel: FakeKernel) -> None:
    client = kernel.connect()
    client.send(b"x" * 50).still_open()
    kernel.finish()

    assert read(kernel, "io")[with_more(REMOTE, direction="transmit")] == 50
    assert read(kernel, "failures") == {}
    assert read(kernel, "rtt") == {}


def test_the_place_of_the_oldest_goes_to_another_and_no_gauge_keeps_it() -> None:
    kernel = FakeKernel(max_connections=3)
    kernel.process(200, CLIENT)
    clients = [kernel.connect(port=40000 + number) for number in range(3)]
    kernel.wait(2 * SECOND_NS)
    clients.append(kernel.connect(port=50000))
    kernel.wait(2 * SECOND_NS)

    assert read(kernel, "open") == {REMOTE: 3}
    for client in clients:
        client.close()
    assert read(kernel, "open") == {REMOTE: 0}
    assert read(kernel, "attempts") == {REMOTE: 4}
    assert read(kernel, "uncounted")[row("", reason="evicted")] == 1


def test_processes_that_were_not_asked_for_are_left_out() -> None:
    kernel = FakeKernel(traced=lambda identity: identity.executable == SERVER)
    kernel.process(200, CLIENT)
    kernel.process(100, SERVER)
    client, server = kernel.pair()
    client.send(b"x").close()
    server.receive(b"x").close()
    kernel.wait()

    assert read(kernel, "open") == {row("stock", role="server", peer="shop"): 0}
