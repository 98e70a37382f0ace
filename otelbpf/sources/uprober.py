"""A small process of its own that attaches uprobes, so that the collector need not keep the right to.

Libraries come and go with their processes as long as the collector runs, and the kernel asks for CAP_SYS_ADMIN each
time: seen on 6.18, where CAP_PERFMON is not enough. That is too much for a process that parses what strangers send. The
helper keeps this one capability, opens no file and reads nothing but numbers and descriptors; it ends with its socket.

`python -m otelbpf.sources.uprober` with the socket as standard input.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from typing import Final

from otelbpf.errors import KernelError
from otelbpf.sources.privileges import SYS_ADMIN, drop_privileges
from otelbpf.sources.uprobes import Uprobes

_ORDER: Final = struct.Struct("<Q?")  # offset, at return; with the descriptors of program and file
_ANSWER: Final = struct.Struct("<i")  # an errno, or 0 with the descriptor of the event
_PATIENCE_SECONDS: Final = 5.0


class Uprober:
    """The helper, at work until `close`."""

    def __init__(self) -> None:
        """Raises KernelError where this kernel has no uprobes."""
        Uprobes()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "otelbpf.sources.uprober"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self._channel.settimeout(_PATIENCE_SECONDS)

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        """See Uprobes.attach."""
        socket.send_fds(self._channel, [_ORDER.pack(offset, at_return)], [program, file])
        try:
            answer, descriptors, _, _ = socket.recv_fds(self._channel, _ANSWER.size, 1)
        except TimeoutError:
            self._channel.close()  # a late answer must not be taken for that of the next order
            raise
        if not answer:
            raise OSError(errno.EPIPE, "the helper that attaches uprobes has ended")
        (code,) = _ANSWER.unpack(answer)
        if code:
            raise OSError(code, os.strerror(code))
        return descriptors[0]

    def close(self) -> None:
        """End it; harmless when called twice."""
        self._channel.close()
        if self._process.poll() is None:
            try:
                self._process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def main() -> None:
    """Do as the socket says until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    drop_privileges((SYS_ADMIN,))
    serve(socket.socket(fileno=os.dup(0)), Uprobes())


def serve(channel: socket.socket, uprobes: Uprobes) -> None:
    """Answer each order."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(channel, _ORDER.size, 2)
        if not order:
            return
        events: list[int] = []
        code = 0
        try:
            offset, at_return = _ORDER.unpack(order)
            program, file = descriptors
            events.append(uprobes.attach(program, file, offset, at_return=at_return))
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None) or errno.EIO
        socket.send_fds(channel, [_ANSWER.pack(code)], events)
        for descriptor in (*events, *descriptors):
            os.close(descriptor)


if __name__ == "__main__":
    try:
        main()
    except (KernelError, OSError):
        sys.exit(1)
