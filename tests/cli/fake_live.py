"""The command `otelbpf` with a kernel made of Python: `python -m tests.cli.fake_live run …` is what a user would start,
except that the records come from a fake kernel that serves 23 requests and then waits to be stopped."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

from otelbpf.cli import live, main
from otelbpf.errors import KernelError, PrivilegeError
from otelbpf.sources.features import Feature
from tests.fake_kernel import FakeKernel

REQUESTS = 23


class FakeLive:
    """Stands where the live source stands. What it is to do wrong is said by FAKE_LIVE."""

    tier = "tracepoint"
    libraries = 1
    tls_refused = ""
    passed_over = ""
    unwatched = ""
    services = (100,)
    probes = ("inet_sock_set_state:on_state", "sock_send_length:on_send_length")

    def __init__(self, **settings: object) -> None:
        self._stopped = False
        self._wrong = os.environ.get("FAKE_LIVE", "")
        if self._wrong == "unprivileged":
            raise PrivilegeError("the kernel refuses to create BPF maps", "run as root")
        if self._wrong == "limited":
            self.passed_over = "this kernel has no kprobes"
            self.unwatched = "the kernel refuses a kprobe on sock_def_readable"
        if self._wrong == "slow":
            time.sleep(30)
        told = {name: value for name, value in settings.items() if isinstance(value, str | int | tuple | list)}
        print("settings " + json.dumps(told), file=sys.stderr, flush=True)  # noqa: T201

    def batches(self) -> Iterator[Sequence[bytes]]:
        kernel = FakeKernel()
        for number in range(REQUESTS):
            server = kernel.accept(peer_port=40000 + number)
            server.receive(b"GET /%d?token=planted HTTP/1.1\r\nHost: h\r\n\r\n" % number)
            server.send(b"HTTP/1.1 204 No Content\r\n\r\n").close()
        yield kernel.records
        if self._wrong == "dies":
            raise KernelError("the ring is gone", "start again")
        if self._wrong == "defect":
            raise ZeroDivisionError("planted")
        while not self._stopped:
            time.sleep(0.01)
            yield []
        if self._wrong == "stuck":
            time.sleep(30)

    def stop(self) -> None:
        self._stopped = True

    def mute(self, key: bytes) -> None:
        """Nobody listens."""

    def copy_more(self, key: bytes) -> None:
        """Nobody listens."""

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        """Nobody listens."""

    def close(self) -> None:
        print("closed", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    live.__dict__["LiveSource"] = FakeLive
    limited = [Feature("processes", False, "CAP_SYS_PTRACE missing", "no names", "run as root", False)]
    live.__dict__["surroundings"] = lambda: limited if os.environ.get("FAKE_LIVE") == "limited" else []
    live.__dict__["has"] = lambda capability: True  # a kernel made of Python asks for none
    main.main()
