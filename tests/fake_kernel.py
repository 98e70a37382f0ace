"""A kernel made of Python: sockets whose life comes out as the very records the probes write, with a clock of its own.

    kernel = FakeKernel()
    server = kernel.accept()
    server.receive(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
    server.send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
    server.close()
    kernel.spans()

`lose=True` on a call makes its record find no room in the ring: the offsets go on, the loss is on the socket's account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otelbpf.events import encode
from otelbpf.events.types import Identity
from otelbpf.events.wire import Flag, TcpState, Unseen
from otelbpf.pipeline import Pipeline
from otelbpf.telemetry.ledger import Ledger
from otelbpf.tracing.span import Span

SECOND_NS = 1_000_000_000
BOOT_NS = 1_700_000_000 * SECOND_NS
"""Unix time at the kernel's zero."""
STEP_NS = 1000
"""The clock advances this much with every call."""


class FakeSource:
    """Takes what the pipeline answers to a source."""

    def __init__(self) -> None:
        self.muted: list[bytes] = []
        self.copied_more: list[bytes] = []
        self.walked: list[tuple[bytes, int, int]] = []

    def batches(self) -> Iterator[Sequence[bytes]]:
        yield from ()

    def stop(self) -> None:
        """Nothing runs."""

    def mute(self, key: bytes) -> None:
        self.muted.append(key)

    def copy_more(self, key: bytes) -> None:
        self.copied_more.append(key)

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        self.walked.append((key, received_offset, sent_offset))

    def close(self) -> None:
        """Nothing is held."""


class FakeSocket:
    """One TCP socket. Methods are what its process, or its peer, does."""

    def __init__(
        self, kernel: FakeKernel, number: int, flags: Flag, *, local: tuple[str, int], remote: tuple[str, int], pid: int
    ) -> None:
        self._kernel = kernel
        self.born_ns = kernel.now_ns
        self.key = encode.encode_key(0xFFFF_8880_0000_0000 + number * 4096, self.born_ns)
        self.endpoints = encode.encode_endpoints(*local, *remote)
        self.flags = flags
        self.pid = pid
        self.sent = self.received = self.arrived = 0
        self.lost_sent = self.lost_received = 0
        self.first = (0, 0)
        self.state = TcpState.ESTABLISHED
        self.touched = False
        """Its process has worked at it."""
        self.retransmits = self.rtt_us = self.buffer_limited_ms = self.window_limited_ms = 0

    def receive(self, data: bytes, **how: object) -> FakeSocket:
        """The process reads `data`, all of it in one call."""
        self.arrived = max(self.arrived, self.received + len(data))
        self._data(data, self.received, Flag(0), **how)  # type: ignore[arg-type]
        self.received += len(data)
        return self

    def send(self, data: bytes, **how: object) -> FakeSocket:
        """The process writes `data`, all of it in one call."""
        self._data(data, self.sent, Flag.SENT, **how)  # type: ignore[arg-type]
        self.sent += len(data)
        return self

    def arrive(self, size: int) -> FakeSocket:
        """Bytes arrive that the process does not read."""
        self.arrived += size
        return self

    def end_sending(self) -> FakeSocket:
        """The process shuts down its side."""
        self.touched = True
        new = TcpState.LAST_ACK if self.state is TcpState.CLOSE_WAIT else TcpState.FIN_WAIT1
        return self._to(new)

    def peer_ends(self) -> FakeSocket:
        """The peer's FIN arrives."""
        new = TcpState.CLOSE_WAIT if self.state is TcpState.ESTABLISHED else TcpState.TIME_WAIT
        return self._to(new)

    def close(self, *, error: int = 0) -> FakeSocket:
        """Both sides are done, or (`error`: an errno) it broke."""
        if not error and self.state is TcpState.ESTABLISHED:
            self.end_sending()
            self.peer_ends()
        return self._to(TcpState.CLOSE, error=error)

    def still_open(self) -> FakeSocket:
        """What the source says about a socket that is open when it ends."""
        return self._to(self.state)

    def _to(self, new: TcpState, *, error: int = 0) -> FakeSocket:
        old, self.state = self.state, new
        return self._tell(old, new, error=error)

    def _tell(self, old: TcpState, new: TcpState, *, error: int = 0, born: bool = False) -> FakeSocket:
        self._kernel.put(
            encode.encode_state(
                key=self.key,
                time_ns=self.born_ns if born else self._kernel.tick(),
                endpoints=self.endpoints,
                old_state=old,
                new_state=new,
                flags=self.flags,
                sent=self.sent,
                received=self.received,
                arrived=self.arrived,
                lost_sent=self.lost_sent,
                lost_received=self.lost_received,
                first_sent=self.first[0],
                first_received=self.first[1],
                error=error,
                retransmits=self.retransmits,
                smoothed_rtt_us=self.rtt_us,
                buffer_limited_ms=self.buffer_limited_ms,
                window_limited_ms=self.window_limited_ms,
                # Who connects is at work on the socket; what has been accepted may be nobody's yet.
                pid=self.pid if self.flags & Flag.CLIENT or self.touched else 0,
            )
        )
        return self

    def connecting(self) -> FakeSocket:
        """The SYN is out: the port is not chosen when that is told."""
        known, self.endpoints = self.endpoints, self.endpoints[:32] + bytes(2) + self.endpoints[34:]
        self.state = TcpState.SYN_SENT
        self._tell(TcpState.CLOSE, TcpState.SYN_SENT, born=True)
        self.endpoints = known
        return self

    def established(self, old: TcpState) -> FakeSocket:
        """The handshake is done."""
        self.state = old
        return self._to(TcpState.ESTABLISHED)

    def _data(
        self,
        data: bytes,
        offset: int,
        direction: Flag,
        *,
        captured: int | None = None,
        why: Unseen = Unseen.BUDGET,
        lose: bool = False,
        waited: int = 0,
    ) -> None:
        time_ns = self._kernel.tick()
        self.touched = True
        if lose:
            self.lost_sent += len(data) if direction else 0
            self.lost_received += 0 if direction else len(data)
            return
        seen = data if captured is None else data[:captured]
        cut = len(seen) < len(data)
        self._kernel.put(
            encode.encode_data(
                key=self.key,
                time_ns=time_ns,
                endpoints=self.endpoints,
                offset=offset,
                data=seen,
                length=len(data),
                flags=int(self.flags | direction) | ((why << 8) if cut else 0),
                tail=data[len(seen) :][-8:] if cut and why is Unseen.BUDGET else b"",
                waited=waited,
                pid=self.pid,
                tid=self.pid,
            )
        )


class FakeKernel:
    """Makes sockets and drives the real pipeline with their records."""

    def __init__(self, **settings: object) -> None:
        self.now_ns = SECOND_NS
        self.records: list[bytes] = []
        self.ledger = Ledger()
        self.source = FakeSource()
        self._spans: list[Span] = []
        self._sockets = 0
        self.pipeline = Pipeline(
            ledger=self.ledger,
            emit=self._spans.extend,
            source=self.source,
            seed=1,
            **settings,  # type: ignore[arg-type]
        )
        self.put(encode.encode_clock(time_ns=self.now_ns, offset_ns=BOOT_NS))

    def tick(self, ns: int = STEP_NS) -> int:
        """Let time pass; returns the new time."""
        self.now_ns += ns
        return self.now_ns

    def wait(self, ns: int = SECOND_NS) -> None:
        """Let time pass and the clock strike."""
        self.put(encode.encode_clock(time_ns=self.tick(ns), offset_ns=BOOT_NS))

    def put(self, record: bytes) -> None:
        """A record as the ring delivers it."""
        self.records.append(record)
        self.pipeline.feed([record])

    def process(self, pid: int, executable: str, *, time_ns: int = 1) -> None:
        """A process is known."""
        self.put(encode.encode_identity(Identity(pid=pid, started_ns=1, time_ns=time_ns, executable=executable)))

    def accept(self, *, pid: int = 100, joined: bool = False, peer_port: int = 40000) -> FakeSocket:
        """A socket somebody connected to."""
        socket = self._socket(Flag.SERVER, joined, ("10.0.0.1", 80), ("10.0.0.2", peer_port), pid)
        return socket if joined else socket.established(TcpState.SYN_RECV)

    def connect(self, *, pid: int = 200, joined: bool = False, port: int = 40000) -> FakeSocket:
        """A socket that connected."""
        socket = self._socket(Flag.CLIENT, joined, ("10.0.0.2", port), ("10.0.0.1", 80), pid)
        return socket if joined else socket.established(TcpState.SYN_SENT)

    def attempt(self, *, pid: int = 200, port: int = 40000) -> FakeSocket:
        """A socket that connects: nobody has answered yet."""
        return self._socket(Flag.CLIENT, False, ("10.0.0.2", port), ("10.0.0.1", 80), pid).connecting()

    def pair(self, *, port: int = 40000) -> tuple[FakeSocket, FakeSocket]:
        """Both ends of one connection: client, server."""
        client = self._socket(Flag.CLIENT, False, ("10.0.0.2", port), ("10.0.0.1", 80), 200)
        server = self._socket(Flag.SERVER, False, ("10.0.0.1", 80), ("10.0.0.2", port), 100)
        client.first = (1000 + port, 2000 + port)
        server.first = (2000 + port, 1000 + port)
        return client.established(TcpState.SYN_SENT), server.established(TcpState.SYN_RECV)

    def spans(self) -> list[Span]:
        """The spans since the last call."""
        spans, self._spans[:] = list(self._spans), []
        return spans

    def finish(self) -> Ledger:
        """The source ends."""
        self.pipeline.finish()
        return self.ledger

    def _socket(
        self, role: Flag, joined: bool, local: tuple[str, int], remote: tuple[str, int], pid: int
    ) -> FakeSocket:
        self._sockets += 1
        flags = role | Flag.JOINED if joined else role
        return FakeSocket(self, self._sockets, flags, local=local, remote=remote, pid=pid)


def attributes(span: Span) -> dict[str, object]:
    """A span's attributes by name; a name that stands twice fails."""
    pairs = (*span.attributes, *span.shared.attributes)
    found: dict[str, object] = dict(pairs)
    assert len(found) == len(pairs), pairs
    return found
