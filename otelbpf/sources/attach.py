"""Starts the loader, takes over what it attached, and lets go of it again."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import msgspec

from otelbpf import errors
from otelbpf.sources import kprobes
from otelbpf.sources.loader import Loaded, Order

_MAX_DESCRIPTORS = 64
_ANSWER_BYTES = 1 << 17


def probes_folder() -> Path:
    """Where the C sources are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_probes"
    return installed if installed.is_dir() else package.parent / "probes"


class Attachment:
    """The probes' descriptors: maps by name in `maps`, programs attached until `detach` or the process's end."""

    def __init__(
        self,
        *,
        tier: str,
        ring_bytes: int,
        max_sockets: int,
        tls: bool = False,
        waits: bool = True,
        probes: Path | None = None,
        loader: Loader | None = None,
    ) -> None:
        """Compiles and attaches; `tier` is kprobe or tracepoint, `tls` loads the programs for libraries as well,
        `waits` attaches to whatever makes sockets readable. `loader` may have been begun earlier. Raises the error the
        loader met."""
        self.tier = tier
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self._programs: list[int] = []
        order = Order(
            tier=tier,
            probes=str(probes or probes_folder()),
            ring_bytes=ring_bytes,
            max_sockets=max_sockets,
            tls=tls,
            waits=waits,
        )
        loaded, descriptors = (loader or Loader()).ask(order)
        if loaded.error:
            for descriptor in descriptors:
                os.close(descriptor)
            error = getattr(errors, loaded.error, errors.KernelError)(loaded.problem, loaded.remedy)
            if loaded.details:
                error.add_note(loaded.details)
            raise error
        self.probes = loaded.attached
        """What is attached: "function or tracepoint:program"."""
        self.maps = dict(zip(loaded.maps, descriptors, strict=False))
        end = len(loaded.maps) + len(loaded.attached)
        self._programs = descriptors[len(loaded.maps) : end]
        self.programs = dict(zip(loaded.programs, descriptors[end:], strict=True))
        """Programs that are loaded but not attached, by name."""
        self.refused = loaded.refused
        self.unwatched = loaded.unwatched
        self.events = loaded.events
        """Kprobe events in tracefs that belong to it."""

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def detach(self) -> None:
        """No program runs any more; the maps stay."""
        for descriptor in self._programs:
            os.close(descriptor)
        self._programs = []
        if self.events:
            kprobes.remove(self.events)
            self.events = []

    def close(self) -> None:
        """Detach and let the maps go; harmless when called twice."""
        self.detach()
        for descriptor in (*self.maps.values(), *self.programs.values()):
            os.close(descriptor)
        self.maps, self.programs = {}, {}


class Loader:
    """The process that compiles. It can be begun before it is known what: until then it imports what it needs."""

    def __init__(self) -> None:
        self._begun: tuple[subprocess.Popen[bytes], socket.socket] | None = _begin()

    def ask(self, order: Order) -> tuple[Loaded, list[int]]:
        """What became of the order, and descriptors as Loaded has them. Each order has a process of its own."""
        process, ours = self._begun or _begin()
        self._begun = None
        with ours:
            with contextlib.suppress(ConnectionError):  # it ended at once: there will be no answer either
                ours.send(msgspec.json.encode(order))
            answer, descriptors = _receive(ours)
            status = process.wait()
        if not answer:
            raise errors.KernelError(f"the loader ended with status {status} and said nothing", "run otelbpf doctor")
        return msgspec.json.decode(answer, type=Loaded), descriptors

    def close(self) -> None:
        """Let one that was not asked go; harmless when called twice."""
        if self._begun is not None:
            process, ours = self._begun
            self._begun = None
            ours.close()
            process.wait()


def _begin() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with theirs:
        process = subprocess.Popen(
            # -P: -m would look for every module in the working directory first, and that may be anybody's.
            [sys.executable, "-P", "-m", "otelbpf.sources.loader"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    return process, ours


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    answer, descriptors = bytearray(), []
    while True:
        try:
            data, more, _, _ = socket.recv_fds(channel, _ANSWER_BYTES, _MAX_DESCRIPTORS)
        except ConnectionResetError:
            data, more = b"", []  # it ended with the order unread
        descriptors += more
        if not data:
            return bytes(answer), descriptors
        answer += data
