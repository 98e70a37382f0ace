"""Programs whose TLS cannot be read are named once each."""

from __future__ import annotations

from otelbpf.events.types import Identity
from otelbpf.tls.unread import MAX_NAMED, Unread


def test_the_first_of_each_program_and_container_is_named() -> None:
    """Not each process that runs it, nor one of which nothing is known twice."""
    known = {
        1: Identity(pid=1, executable="/bin/a"),
        2: Identity(pid=2, executable="/bin/a"),
        3: Identity(pid=3, executable="/bin/a", container_id="c"),
        4: Identity(pid=4, comm="gone"),
    }
    named: list[int] = []
    unread = Unread(lambda identity: named.append(identity.pid), lambda pid: known.get(pid, Identity(pid=pid)))
    for pid in (1, 2, 0, 1, 3, 4, 5, 5, 3, 2):
        unread(pid)
    assert named == [1, 3, 4, 5]


def test_what_is_remembered_is_bounded_and_nobody_is_passed_over() -> None:
    """However many programs there are."""
    named: list[int] = []
    unread = Unread(
        lambda identity: named.append(identity.pid), lambda pid: Identity(pid=pid, executable=f"/bin/{pid}")
    )
    for pid in range(1, MAX_NAMED + 10):
        unread(pid)
    assert named == list(range(1, MAX_NAMED + 10))
    unread(MAX_NAMED + 9)
    assert len(named) == MAX_NAMED + 9
    assert len(unread._named) == MAX_NAMED
