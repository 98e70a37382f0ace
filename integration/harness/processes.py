"""Programs a test starts: their output kept in a file, readiness waited for, their family known, ended by pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
CACHE = ROOT / ".cache"
"""Where built programs, kernels and Jaeger stay between runs."""
SLOW = float(os.environ.get("INTEGRATION_SLOW", "1"))
"""How many times slower than bare metal this machine is: the guests, whose processor is emulated, set it."""


def wait_for(
    what: str, condition: Callable[[], T | None], *, within_seconds: float = 20.0, otherwise: Callable[[], object] = str
) -> T:
    """The first true value of `condition`; an AssertionError naming `what` and `otherwise` when the deadline passes."""
    deadline = time.monotonic() + within_seconds * SLOW
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {within_seconds * SLOW:.0f} s for {what} {otherwise()}"
        time.sleep(0.005)
    return value


def free_port() -> int:
    """A port that no one listens on, below the range from which connecting sockets take theirs."""
    while True:
        port = random.randrange(12000, 32000)
        try:
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.bind((address, port))
        except OSError:
            continue
        return port


def descendants(pid: int) -> set[int]:
    """`pid` and every process below it now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    family, found = [pid], {pid}
    while family:
        below = children.get(family.pop(), [])
        found.update(below)
        family.extend(below)
    return found


class Running:
    """A program at work; use as a context manager, so that it ends where the test says. What a failed test leaves is
    ended by `stop_all`."""

    _all: ClassVar[list[Running]] = []

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.folder = folder
        self.output_path = folder / f"{name}.out"
        self._family: set[int] = set()
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                cwd=folder,
            )
        self.pid = self.process.pid
        Running._all.append(self)

    @classmethod
    def stop_all(cls, keep: Sequence[Running] = ()) -> None:
        """End everything that was started and still runs, but for `keep`."""
        for running in cls._all:
            if running not in keep:
                running.stop(within_seconds=2)
                if running.process.stdin is not None:
                    running.process.stdin.close()
        cls._all[:] = keep

    def release(self) -> None:
        """End its standard input, for which it stays."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
            self.wait(within_seconds=20)

    @classmethod
    def release_all(cls) -> None:
        """The same for everything that stays so."""
        for running in cls._all:
            running.release()

    @classmethod
    def at_work(cls) -> list[Running]:
        """What runs now."""
        return [running for running in cls._all if running.alive()]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def family(self) -> set[int]:
        """Its process and all it started, those of earlier calls included."""
        self._family |= descendants(self.pid) if self.process.poll() is None else set()
        return self._family | {self.pid}

    def output(self) -> str:
        """What it wrote, standard output and error together."""
        return self.output_path.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait(self, *, within_seconds: float = 60.0) -> int:
        """Its exit status; an AssertionError when the deadline passes."""
        try:
            return self.process.wait(within_seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs:\n{self.output()[-2000:]}") from None

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within_seconds: float = 15.0) -> int:
        """End it by `how`; one that does not heed it is killed and the status is then that of the kill."""
        self.family()
        if self.alive():
            self.process.send_signal(how)
        try:
            return self.process.wait(within_seconds * SLOW)
        except subprocess.TimeoutExpired:
            for pid in self.family():
                if pid != self.pid and Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            return self.process.wait()


def accepts(port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def answers(address: str, port: int) -> bool:
    """Whether an HTTP server answers a GET of /ready there."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: ready\r\nConnection: close\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def greets(address: str, port: int) -> bool:
    """Whether a server of HTTP/2 returns a client's preface and settings with settings of its own (RFC 9113, 3.4)."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            return connection.recv(9)[3:4] == b"\4"
    except OSError:
        return False


def wait_until_serving(
    server: Running, port: int, addresses: Sequence[str] = ("127.0.0.1", "::1"), *, http2: bool = False
) -> None:
    """Until `server` answers on `port` at every address, or has ended."""
    speaks = greets if http2 else answers

    def ready() -> bool:
        assert server.alive(), f"{server.name} ended:\n{server.output()[-3000:]}"
        return all(speaks(address, port) for address in addresses)

    try:
        wait_for(f"{server.name} to serve port {port}", ready, within_seconds=30)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{server.output()[-3000:]}") from None


def python() -> str:
    """The interpreter whose packages the workload's Python programs use."""
    return sys.executable
