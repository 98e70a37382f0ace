"""What addresses are called in the graph and in the metrics of connections."""

from __future__ import annotations

from otelbpf.events.encode import encode_answer
from otelbpf.events.types import Answer
from otelbpf.metrics.names import KEPT_NS, MAX_ADDRESSES, Names
from tests.fake_kernel import FakeKernel
from tests.metrics.reading import values
from tests.protocols.test_dns import answer, v4, v6

OLD = b"GET /a HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def tell(names: Names, name: str, *addresses: str, time_ns: int = 1) -> None:
    """A name server's answer."""
    records = [v6(address) if ":" in address else v4(address) for address in addresses]
    names.note(Answer(time_ns, answer(name, *records)))


def test_an_address_is_called_by_its_only_name() -> None:
    names = Names()
    tell(names, "db.example", "10.0.0.7", "2001:db8::7")
    assert [names.of(one) for one in ("10.0.0.7", "2001:db8::7", "10.0.0.8")] == [
        "db.example",
        "db.example",
        "10.0.0.8",
    ]


def test_of_two_names_nobody_knows_which_was_meant() -> None:
    """Until the other was not heard for an hour."""
    names = Names()
    tell(names, "a.cdn.example", "10.0.0.7", time_ns=1)
    tell(names, "b.cdn.example", "10.0.0.7", time_ns=2)
    tell(names, "a.cdn.example", "10.0.0.7", time_ns=KEPT_NS)
    assert names.of("10.0.0.7") == "10.0.0.7"
    tell(names, "a.cdn.example", "10.0.0.7", time_ns=KEPT_NS + 3)
    assert names.of("10.0.0.7") == "a.cdn.example"


def test_what_name_servers_say_is_bounded() -> None:
    names = Names()
    for number in range(MAX_ADDRESSES + 100):
        tell(names, f"n{number}.example", f"10.1.{number >> 8}.{number & 255}")
    for number in range(1000):
        tell(names, f"m{number}.example", "10.9.9.9")
    assert len(names._names) == MAX_ADDRESSES
    assert max(map(len, names._names.values())) <= 4
    assert names.of("10.1.0.0") == "10.1.0.0"
    assert names.of("10.9.9.9") == "10.9.9.9"


def test_who_is_asked_without_a_name_has_that_of_its_address() -> None:
    """HTTP/1.0 needs no Host. What a request names itself comes before."""
    kernel = FakeKernel()
    kernel.process(200, "/bin/shop")
    kernel.put(encode_answer(time_ns=kernel.tick(), message=answer("stock.example", v4("10.0.0.1"))))
    kernel.connect(port=40001).send(OLD).receive(OK).close()
    kernel.connect(port=40002).send(b"GET / HTTP/1.0\r\nHost: other.example\r\n\r\n").receive(OK).close()
    families = kernel.pipeline.measures.snapshot()
    edges = values(families, "traces_service_graph_request")
    assert {dict(attributes)["server"] for _, attributes in edges} == {"stock.example", "other.example"}
    attempts = values(families, "otelbpf.connection.attempts")
    assert {dict(attributes)["server.address"] for _, attributes in attempts} == {"stock.example"}
