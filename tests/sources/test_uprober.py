"""Orders to the helper that attaches uprobes, over a real socket; the kernel is played."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from otelbpf.sources import uprober
from otelbpf.sources.uprobes import Uprobes


class FakeUprobes(Uprobes):
    """Remembers what it was asked; refuses offset 13."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int, bool]] = []

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        if offset == 13:
            raise PermissionError(1, "Operation not permitted")
        self.asked.append((os.fstat(program).st_ino, os.fstat(file).st_ino, offset, at_return))
        return os.open(os.devnull, os.O_RDONLY)


@pytest.fixture
def pair() -> Iterator[tuple[uprober.Uprober, FakeUprobes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    uprobes = FakeUprobes()
    helper = threading.Thread(target=uprober.serve, args=(theirs, uprobes))
    helper.start()
    client = uprober.Uprober.__new__(uprober.Uprober)
    client.__dict__["_channel"] = ours
    yield client, uprobes
    ours.close()
    helper.join()
    theirs.close()


def test_what_is_ordered_is_attached_and_taken_away(pair: tuple[uprober.Uprober, FakeUprobes]) -> None:
    client, uprobes = pair
    with open(__file__, "rb") as program, open(os.__file__, "rb") as file:
        event = client.attach(program.fileno(), file.fileno(), 1 << 40, at_return=True)
        inodes = os.fstat(program.fileno()).st_ino, os.fstat(file.fileno()).st_ino

    assert uprobes.asked == [(*inodes, 1 << 40, True)]
    assert os.fstat(event).st_rdev == os.stat(os.devnull).st_rdev  # the helper is a thread here: its descriptor
    client.release(event)
    client.release(event)  # as if nothing had been said: by now the number may be another's
    with open(os.__file__, "rb") as file:  # answered when the order before it is done
        another = client.attach(file.fileno(), file.fileno(), 1, at_return=False)
    assert len(uprobes.asked) == 2
    os.close(another)


def test_a_refusal_comes_back_and_the_next_order_is_done(pair: tuple[uprober.Uprober, FakeUprobes]) -> None:
    client, uprobes = pair
    with open(__file__, "rb") as file:
        with pytest.raises(PermissionError):
            client.attach(file.fileno(), file.fileno(), 13, at_return=False)
        os.close(client.attach(file.fileno(), file.fileno(), 14, at_return=False))

    assert [offset for _, _, offset, _ in uprobes.asked] == [14]


def test_everything_goes_with_the_last_order() -> None:
    """Side by side, and before the helper ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()

    class Pipes(FakeUprobes):
        def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
            return os.dup(write)

    helper = threading.Thread(target=uprober.serve, args=(theirs, Pipes()))
    helper.start()
    client = uprober.Uprober.__new__(uprober.Uprober)
    client.__dict__["_channel"] = ours
    for offset in range(100):
        client.attach(read, read, offset, at_return=False)
    os.close(write)
    client.close()
    helper.join()

    assert os.read(read, 1) == b""  # nobody holds the other end
    os.close(read)
    theirs.close()


def test_everything_goes_where_nobody_waits_for_the_answer() -> None:
    """The collector is killed while its order is carried out: what it was to get is attached by then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    begun, gone = threading.Event(), threading.Event()

    class Slow(FakeUprobes):
        def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
            if offset:
                begun.set()
                assert gone.wait(10)
            return os.dup(write)

    def serve() -> None:
        with pytest.raises(BrokenPipeError):  # main ends with that
            uprober.serve(theirs, Slow())

    helper = threading.Thread(target=serve)
    helper.start()
    client = uprober.Uprober.__new__(uprober.Uprober)
    client.__dict__["_channel"] = ours
    client.attach(read, read, 0, at_return=False)
    socket.send_fds(ours, [uprober._ORDER.pack(1, False)], [read, read])
    assert begun.wait(10)
    os.close(write)
    client.close()
    gone.set()
    helper.join()

    assert os.read(read, 1) == b""
    os.close(read)
    theirs.close()
