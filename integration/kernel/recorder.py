"""A live source read on a thread of its own, and its records by socket."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from integration.harness.processes import SLOW
from otelbpf.events.decode import decode
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Event, Losses, ProcessSeen
from otelbpf.events.wire import Flag, Loss, TcpState, Unseen
from otelbpf.sources.live import LiveSource

_PORTS = struct.Struct("<32xHHI")
_WITHIN_SECONDS = 5.0


class Piece(msgspec.Struct, frozen=True):
    """What one data record says, without what differs from run to run."""

    offset: int
    data: bytes
    length: int = -1
    """-1: all of it was copied."""
    unseen: Unseen = Unseen.NONE
    tail: bytes = b""
    continued: bool = False


class Side(msgspec.Struct, frozen=True):
    """One socket's records."""

    events: list[Data | State]

    @property
    def key(self) -> bytes:
        return self.events[0].key

    @property
    def sent(self) -> list[Piece]:
        return self._pieces(sent=True)

    @property
    def received(self) -> list[Piece]:
        return self._pieces(sent=False)

    @property
    def states(self) -> list[TcpState]:
        """Every state it was told to be in."""
        return [event.new_state for event in self.events if isinstance(event, State)]

    @property
    def last(self) -> State:
        """Its last state record."""
        return [event for event in self.events if isinstance(event, State)][-1]

    def _pieces(self, *, sent: bool) -> list[Piece]:
        return [
            Piece(
                offset=event.offset,
                data=event.data,
                length=-1 if event.length == len(event.data) else event.length,
                unseen=event.unseen,
                tail=event.tail,
                continued=bool(event.flags & Flag.CONTINUED),
            )
            for event in self.events
            if isinstance(event, Data) and bool(event.flags & Flag.SENT) is sent
        ]


class Recorder:
    """Everything a source delivers, from its start to `stop`."""

    def __init__(self, **options: Any) -> None:
        self.source = LiveSource(keep_privileges=True, **options)
        self.events: list[Event] = []
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="recorder")
        self._thread.start()

    def _read(self) -> None:
        for records in self.source.batches():
            with self._arrived:
                self.events += map(decode, records)
                self._arrived.notify_all()

    def stop(self) -> None:
        """End the source and read what is left."""
        self.source.stop()
        self._thread.join()

    def close(self) -> None:
        """Stop and release."""
        self.stop()
        self.source.close()

    def until(self, what: str, found: Callable[[list[Event]], Any]) -> Any:
        """The first true answer of `found` about the events so far."""
        end = time.monotonic() + _WITHIN_SECONDS * SLOW
        with self._arrived:
            while not (answer := found(self.events)):
                assert self._arrived.wait(max(end - time.monotonic(), 0)), f"waited in vain for {what}"
        return answer

    def side(self, local_port: int, remote_port: int, *, closed: bool = True) -> Side:
        """The records of the socket between two ports; waits for its end unless that is not to come."""

        def find(events: list[Event]) -> Side | None:
            keys = {
                event.key
                for event in events
                if isinstance(event, Data | State) and _PORTS.unpack(event.endpoints)[:2] == (local_port, remote_port)
            }
            assert len(keys) < 2, f"{len(keys)} sockets between ports {local_port} and {remote_port}"
            side = Side([event for event in events if isinstance(event, Data | State) and event.key in keys])
            over = side.events and (not closed or (side.states and side.states[-1] == TcpState.CLOSE))
            return side if over else None

        side = self.until(f"the socket from {local_port} to {remote_port}", find)
        assert isinstance(side, Side)
        return side

    def processes(self) -> list[ProcessSeen]:
        """The processes told so far."""
        with self._arrived:
            return [event for event in self.events if isinstance(event, ProcessSeen)]

    def settle(self) -> None:
        """Wait until what has happened by now is read: the source reports its losses once a second."""
        for _ in range(2):
            reports = self._reports(self.events)

            def one_more(events: list[Event], before: int = reports) -> bool:
                return self._reports(events) > before

            self.until("the next report", one_more)

    @staticmethod
    def _reports(events: list[Event]) -> int:
        return sum(isinstance(event, Losses) for event in events)

    def losses(self, reason: Loss) -> tuple[int, int]:
        """The kernel's counter now."""
        return self.source.losses()[reason]
