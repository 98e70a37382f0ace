"""A small process of its own that attaches uprobes, so that the collector need not keep the right to.

Libraries come and go with their processes as long as the collector runs, and the kernel asks for CAP_SYS_ADMIN each
time: seen on 6.18, where CAP_PERFMON is not enough. That is too much for a process that parses what strangers send. The
helper keeps this one capability, opens no file and reads nothing but numbers and descriptors; it ends with its socket.

It also holds what is attached. The kernel takes a while to take each uprobe away (see sources.uprobes): that goes on in
the helper, when the collector has ended already.

`python -m otelbpf.sources.uprober` with the socket as standard input.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from otelbpf.errors import KernelError
from otelbpf.sources.privileges import SYS_ADMIN, drop_privileges
from otelbpf.sources.uprobes import Uprobes

_ORDER: Final = struct.Struct("<Q?")  # offset, at return; with the descriptors of program and file
_RELEASE: Final = struct.Struct("<i")  # what an answer gave; not answered
_ANSWER: Final = struct.Struct("<ii")  # an errno, or 0 and what to release
_PATIENCE_SECONDS: Final = 5.0
_SIDE_BY_SIDE: Final = 64
"""So many are taken away at once: each waits for all processors to have passed by, and they can wait together."""


class Uprober:
    """The helper, at work until `close`."""

    def __init__(self) -> None:
        """Raises KernelError where this kernel has no uprobes."""
        Uprobes()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "otelbpf.sources.uprober"],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        self._channel.settimeout(_PATIENCE_SECONDS)

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        """As Uprobes.attach, but what it gives is for `release`."""
        socket.send_fds(self._channel, [_ORDER.pack(offset, at_return)], [program, file])
        try:
            answer = self._channel.recv(_ANSWER.size)
        except TimeoutError:
            self._channel.close()  # a late answer must not be taken for that of the next order
            raise
        if not answer:
            raise OSError(errno.EPIPE, "the helper that attaches uprobes has ended")
        code, event = _ANSWER.unpack(answer)
        if code:
            raise OSError(code, os.strerror(code))
        return int(event)

    def release(self, event: int) -> None:
        """Take a uprobe away, soon."""
        with contextlib.suppress(OSError):
            self._channel.send(_RELEASE.pack(event))

    def close(self) -> None:
        """Let it end, and every uprobe with it; nobody waits for that. Harmless when called twice."""
        self._channel.close()


def main() -> None:
    """Do as the socket says until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    drop_privileges((SYS_ADMIN,))
    serve(socket.socket(fileno=os.dup(0)), Uprobes())


def serve(channel: socket.socket, uprobes: Uprobes) -> None:
    """Answer each order; take everything away at the end."""
    attached: set[int] = set()
    # Beside the orders, or the next one would wait for all.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as releasing:
        try:
            _answer(channel, uprobes, attached, releasing)
        finally:  # also where the collector went without waiting for an answer
            for event in attached:
                releasing.submit(os.close, event)


def _answer(channel: socket.socket, uprobes: Uprobes, attached: set[int], releasing: ThreadPoolExecutor) -> None:
    while True:
        order, descriptors, _, _ = socket.recv_fds(channel, _ORDER.size, 2)
        if not order:
            return
        if len(order) == _RELEASE.size:
            event = _RELEASE.unpack(order)[0]
            if event in attached:
                attached.remove(event)
                releasing.submit(os.close, event)
            continue
        event = code = 0
        try:
            offset, at_return = _ORDER.unpack(order)
            program, file = descriptors
            event = uprobes.attach(program, file, offset, at_return=at_return)
            attached.add(event)
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None) or errno.EIO
        channel.send(_ANSWER.pack(code, event))
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    try:
        main()
    except (KernelError, OSError):
        sys.exit(1)
