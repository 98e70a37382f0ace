"""Who a process was when it did something."""

from __future__ import annotations

import pytest

from otelbpf.events.encode import encode_endpoints
from otelbpf.events.types import Host, Identity, ProcessSeen
from otelbpf.identity.directory import MAX_PAST, Directory
from otelbpf.identity.resources import Attributes
from otelbpf.tracing.span import Resource

NOWHERE = encode_endpoints("::", 0, "::", 0)


@pytest.fixture
def directory() -> Directory[Resource]:
    """One that nobody is in."""
    return Directory(Resource)


def identity(pid: int, name: str, time_ns: int, *, started_ns: int = 1) -> Identity:
    """A process of an executable's name."""
    return Identity(pid=pid, started_ns=started_ns, time_ns=time_ns, executable=f"/bin/{name}")


def name_of(directory: Directory[Resource], pid: int, time_ns: int) -> str:
    """service.name of what a process did at a time."""
    return str(dict(directory.resource_of(pid, time_ns, NOWHERE).attributes)["service.name"])


def test_one_resource_as_long_as_a_process_lives(directory: Directory[Resource]) -> None:
    """The same object, whenever it is asked for, and though the process is met again."""
    directory.add(identity(7, "orders", 100))
    first = directory.resource_of(7, 100, NOWHERE)
    directory.see(ProcessSeen(300, 7, 1, 0, "orders"))
    directory.add(identity(7, "orders", 300))

    assert directory.resource_of(7, 200, NOWHERE) is first
    assert directory.resource_of(7, 400, NOWHERE) is first
    assert dict(first.attributes)["service.name"] == "orders"


def test_a_process_acts_before_it_is_met(directory: Directory[Resource]) -> None:
    """The time of a call's entry lies before that of the record that tells of the process."""
    directory.add(identity(7, "orders", 100))

    assert name_of(directory, 7, 1) == "orders"


def test_who_ends_at_once_is_who_was_known_before(directory: Directory[Resource]) -> None:
    """Of whom nothing can be read any more; but not another program, nor the next process of that number."""
    known = Identity(pid=7, started_ns=10_000_000, time_ns=100, comm="orders", executable="/bin/orders")
    directory.add(known)
    first = directory.resource_of(7, 100, NOWHERE)
    directory.see(ProcessSeen(200, 7, 14_000_000, 0, "orders"))
    directory.add(Identity(pid=7, started_ns=14_000_000, time_ns=200, comm="orders"))
    assert directory.resource_of(7, 300, NOWHERE) is first

    directory.add(Identity(pid=7, started_ns=14_000_000, time_ns=400, comm="billing"))
    directory.add(Identity(pid=7, started_ns=10_000_000_000, time_ns=500, comm="orders"))
    assert [name_of(directory, 7, time_ns) for time_ns in (300, 400, 500)] == ["orders", "billing", "orders"]
    assert directory.resource_of(7, 500, NOWHERE) is not first


def test_exec_and_the_next_of_its_number(directory: Directory[Resource]) -> None:
    """From its time on each identity holds; late records find the one before."""
    directory.add(identity(7, "sh", 100))
    directory.add(identity(7, "orders", 200))
    directory.add(identity(7, "billing", 300, started_ns=250))

    names = [name_of(directory, 7, time_ns) for time_ns in (50, 100, 199, 200, 299, 300, 10**18)]
    assert names == ["sh", "sh", "sh", "orders", "orders", "billing", "billing"]


def test_identities_that_come_in_another_order(directory: Directory[Resource]) -> None:
    """Their times tell."""
    for name, time_ns in (("c", 300), ("a", 100), ("b", 200)):
        directory.add(identity(7, name, time_ns))

    assert [name_of(directory, 7, time_ns) for time_ns in (100, 200, 300)] == ["a", "b", "c"]


def test_what_the_kernel_says_until_more_is_known(directory: Directory[Resource]) -> None:
    """A process that was gone before it could be read has the name the kernel knew it by."""
    directory.see(ProcessSeen(100, 7, 1, 0, "curl"))
    assert name_of(directory, 7, 100) == "curl"

    directory.add(identity(7, "curl-8", 100))
    assert name_of(directory, 7, 100) == "curl-8"


def test_processes_that_were_never_met(directory: Directory[Resource]) -> None:
    """Their number is known; what the kernel does for nobody is nobody's."""
    attributes = dict(directory.resource_of(7, 1, NOWHERE).attributes)

    assert (attributes["service.name"], attributes["process.pid"]) == ("unknown_service", 7)
    assert "process.pid" not in dict(directory.resource_of(0, 1, NOWHERE).attributes)
    assert directory.resource_of(0, 1, NOWHERE) is directory.resource_of(0, 2, NOWHERE)
    assert directory.resource_of(7, 1, NOWHERE) is directory.resource_of(7, 2, NOWHERE)


def test_who_was_asked_for_before_it_was_met(directory: Directory[Resource]) -> None:
    """A service listens before it answers: its first request, begun before it was met, is its own."""
    assert name_of(directory, 7, 10**18) == "unknown_service"
    directory.see(ProcessSeen(100, 7, 1, 0, "orders"))
    directory.add(identity(7, "orders", 100))

    assert [name_of(directory, 7, time_ns) for time_ns in (99, 100)] == ["orders", "orders"]


def test_the_host_is_told(directory: Directory[Resource]) -> None:
    """Also by resources that were made before it was known; told again, it changes nothing."""
    directory.add(identity(7, "orders", 100))
    before = [directory.resource_of(pid, 100, NOWHERE) for pid in (0, 7)]
    directory.set_host(Host(name="box"))
    after = [directory.resource_of(pid, 100, NOWHERE) for pid in (0, 7)]
    directory.set_host(Host(name="box"))

    assert ["host.name" in dict(resource.attributes) for resource in before] == [False, False]
    assert [dict(resource.attributes)["host.name"] for resource in after] == ["box", "box"]
    assert [directory.resource_of(pid, 100, NOWHERE) for pid in (0, 7)] == after


def test_extra_attributes() -> None:
    """On every resource."""
    directory = Directory(Resource, extra=[("region", "north")])
    directory.add(identity(7, "orders", 100))

    regions = [dict(directory.resource_of(pid, 100, NOWHERE).attributes)["region"] for pid in (0, 7, 8)]
    assert regions == ["north"] * 3


def test_servers_of_packets(directory: Directory[Resource]) -> None:
    """By local address and port, one object each, whoever speaks to them."""
    directory.set_host(Host(packets=True, os_type=""))
    one = directory.resource_of(0, 1, encode_endpoints("10.0.0.1", 80, "10.0.0.2", 40000))
    again = directory.resource_of(0, 2, encode_endpoints("10.0.0.1", 80, "10.0.0.3", 1))
    other = directory.resource_of(0, 3, encode_endpoints("10.0.0.1", 81, "10.0.0.2", 40000))

    assert one is again
    assert one.attributes[0] == ("service.name", "10.0.0.1:80")
    assert other.attributes[0] == ("service.name", "10.0.0.1:81")


def test_who_is_wanted(directory: Directory[Resource]) -> None:
    """Asked of the identity that holds now; a process that was never met has none of anything."""
    directory.add(identity(7, "sh", 100))
    directory.add(identity(7, "orders", 200))

    assert directory.matches(7, lambda process: process.executable == "/bin/orders")
    assert not directory.matches(7, lambda process: process.executable == "/bin/sh")
    assert not directory.matches(8, lambda process: process.executable != "")


def test_bounds() -> None:
    """So many processes, so many identities of each, so many servers; what was asked for last stays."""
    made: list[Attributes] = []

    def make(attributes: Attributes) -> Resource:
        made.append(attributes)
        return Resource(attributes)

    directory = Directory(make, max_processes=3)
    for pid in (1, 2, 3):
        directory.add(identity(pid, f"p{pid}", 100))
    directory.resource_of(1, 100, NOWHERE)
    directory.add(identity(4, "p4", 100))
    assert [directory.identity_of(pid).executable for pid in (1, 2, 3, 4)] == ["/bin/p1", "", "/bin/p3", "/bin/p4"]

    for time_ns in range(200, 300):
        directory.add(identity(1, f"at{time_ns}", time_ns))
    assert directory.identity_of(1, 0).executable == f"/bin/at{300 - MAX_PAST}"

    directory.set_host(Host(packets=True))
    for port in (80, 81, 82, 80, 83, 80):
        directory.resource_of(0, 1, encode_endpoints("::1", port, "::1", 1))
    assert [name for attributes in made[-4:] for _, name in attributes[:1]] == [
        "[::1]:80",
        "[::1]:81",
        "[::1]:82",
        "[::1]:83",
    ]
    assert len(directory) == 3


def test_what_users_say_of_themselves_is_bounded_over_all_processes() -> None:
    """Arguments and environments: a hundred processes that run four programs each, all with as much of both as is
    read."""
    directory: Directory[Resource] = Directory(Resource, max_bytes=80_000)
    for time_ns in range(100, 104):
        for pid in range(1, 101):
            said = f"{time_ns}-{pid}"
            directory.add(
                Identity(
                    pid=pid,
                    time_ns=time_ns,
                    command=(said.ljust(4000),),
                    environment={"OTEL_SERVICE_NAME": said.ljust(4000)},
                )
            )

    assert len(directory) == 10
    assert [directory.identity_of(pid).time_ns for pid in (90, 91, 100)] == [0, 103, 103]
    assert directory.resource_of(100, 103, NOWHERE).attributes[0] == ("service.name", "103-100")


def test_one_process_may_say_more_than_all_together() -> None:
    """It is not forgotten for it."""
    directory: Directory[Resource] = Directory(Resource, max_bytes=10)
    directory.add(Identity(pid=1, time_ns=1, command=("shop", "--with", "many words")))
    directory.add(Identity(pid=1, time_ns=1, command=("shop", "--with", "other words")))

    assert directory.identity_of(1).command == ("shop", "--with", "other words")
