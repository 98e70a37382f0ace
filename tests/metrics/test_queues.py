"""Accept queues counted per service and port."""

from __future__ import annotations

import pytest

from otelbpf.events.encode import encode_endpoints, encode_key, encode_listener, encode_refusals
from otelbpf.events.types import Refusals
from otelbpf.metrics.histogram import Histogram
from otelbpf.metrics.requests import WINDOW_NS
from tests.fake_kernel import FakeKernel
from tests.metrics.reading import Row, row, values

KINDS = ("overflows", "drops")
STOCK = row("stock", server_port=80)


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.process(100, "/bin/stock")
    kernel.process(200, "/bin/master")
    return kernel


def tell(
    kernel: FakeKernel, *, socket: int = 1, pid: int = 0, depth: int = 0, deepest: int = 0, dropped: int = 0
) -> None:
    kernel.put(
        encode_listener(
            key=encode_key(socket, 1),
            time_ns=kernel.tick(),
            pid=pid,
            endpoints=encode_endpoints("0.0.0.0", 80, "0.0.0.0", 0),
            depth=depth,
            deepest=deepest,
            limit=128,
            dropped=dropped,
        )
    )


def read(kernel: FakeKernel, name: str) -> dict[Row, int | float | Histogram]:
    return values(kernel.pipeline.measures.snapshot(), f"otelbpf.accept_queue.{name}")


def test_depth_limit_and_drops_of_who_serves_there(kernel: FakeKernel) -> None:
    kernel.accept().receive(b"x")
    tell(kernel, depth=3, deepest=17, dropped=5)
    tell(kernel, depth=2, deepest=4, dropped=12)

    assert read(kernel, "depth") == {STOCK: 2}
    assert read(kernel, "depth.max") == {STOCK: 17}
    assert read(kernel, "limit") == {STOCK: 128}
    # What was dropped before it was first seen is not of this time.
    assert read(kernel, "dropped") == {STOCK: 7}


def test_a_socket_whose_birth_was_seen_counts_from_there(kernel: FakeKernel) -> None:
    tell(kernel, pid=200, dropped=5)
    tell(kernel, pid=200, dropped=6)

    assert read(kernel, "dropped") == {row("master", server_port=80): 6}


def test_a_socket_of_nobody_waits_until_somebody_serves_there(kernel: FakeKernel) -> None:
    tell(kernel, depth=3, dropped=5)
    tell(kernel, depth=3, dropped=7)
    assert read(kernel, "depth") == {}
    kernel.accept().receive(b"x")
    tell(kernel, depth=1, dropped=9)

    assert read(kernel, "depth") == {STOCK: 1}
    assert read(kernel, "dropped") == {STOCK: 4}


def test_several_sockets_at_one_port_are_one_service(kernel: FakeKernel) -> None:
    kernel.accept().receive(b"x")
    tell(kernel, socket=1, depth=3, deepest=5)
    tell(kernel, socket=2, depth=4, deepest=9)

    assert (read(kernel, "depth"), read(kernel, "depth.max")) == ({STOCK: 7}, {STOCK: 9})


def test_the_counter_of_the_kernel_begins_anew(kernel: FakeKernel) -> None:
    kernel.accept().receive(b"x")
    tell(kernel, dropped=0xFFFF_FFFE)
    tell(kernel, dropped=3)

    assert read(kernel, "dropped") == {STOCK: 5}


def test_the_most_is_forgotten_after_two_windows(kernel: FakeKernel) -> None:
    kernel.accept().receive(b"x")
    tell(kernel, depth=1, deepest=17)
    kernel.wait(WINDOW_NS)
    assert read(kernel, "depth.max") == {STOCK: 17}
    kernel.wait(WINDOW_NS)
    assert read(kernel, "depth.max") == {STOCK: 1}


def test_what_a_namespace_had_no_room_for_since_the_first_look(kernel: FakeKernel) -> None:
    for namespace, overflows, drops in ((7, 100, 200), (8, 0, 0), (7, 103, 205), (8, 0, 1)):
        kernel.put(
            encode_refusals(Refusals(namespace=namespace, time_ns=kernel.tick(), overflows=overflows, drops=drops))
        )

    found = {name: values(kernel.pipeline.measures.snapshot(), f"otelbpf.namespace.listen.{name}") for name in KINDS}
    first, second = (row("", otelbpf_network_namespace=number) for number in (7, 8))
    assert found == {"overflows": {first: 3, second: 0}, "drops": {first: 5, second: 1}}
