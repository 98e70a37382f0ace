"""A packet file as a source: each TCP connection once, as its server's socket would have told it.

The server is who receives the SYN. Where the file begins within a connection, it is who sends a response or is sent a
request; else who served another connection of the file; else, as a last resort, the lower port. There are no
processes; times are Unix time as captured.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from otelbpf.errors import CaptureError
from otelbpf.events.encode import encode_clock, encode_host
from otelbpf.events.types import Host
from otelbpf.sources.conversation import Conversation
from otelbpf.sources.packet_file import PacketFile
from otelbpf.sources.reassembly import Budget
from otelbpf.sources.segments import Segment, read_segment

_BATCH_FRAMES: Final = 256
_QUIET_NS: Final = 60_000_000_000
"""How long a closed connection is remembered for its late segments: Linux's TIME_WAIT."""


class PacketSource:
    """Reads a pcap or pcapng file to its end."""

    def __init__(self, path: str | Path, *, max_connections: int = 65536, max_held_bytes: int = 64 << 20) -> None:
        """Beyond `max_connections` the one that was quiet the longest is let go; `max_held_bytes` is what segments out
        of order may take, over all connections."""
        self._path = path
        self._file = PacketFile(path)
        self._max = max_connections
        self._budget = Budget(max_held_bytes)
        self._table: OrderedDict[bytes, Conversation] = OrderedDict()
        self._servers: set[bytes] = set()
        self._stopped = False
        self._now_ns = 0
        self.frames = 0
        """Frames read."""
        self.connections = 0
        self.evicted = 0
        """Connections let go while they were open, because there were too many; joined again when they speak."""
        self.skipped: Counter[str] = Counter()
        """Frames that are no TCP segment, by what they are instead."""

    def batches(self) -> Iterator[Sequence[bytes]]:
        """The records of every connection; then CaptureError if the file is damaged or holds no TCP at all."""
        damage: CaptureError | None = None
        records = [encode_host(Host(packets=True, os_type=""))]
        try:
            for frame in self._file.frames():
                if self._stopped:
                    break
                self.frames += 1
                if self.frames == 1:
                    records.append(encode_clock(time_ns=frame.time_ns, offset_ns=0))
                self._now_ns = max(self._now_ns, frame.time_ns)
                segment = read_segment(frame)
                if isinstance(segment, str):
                    self.skipped[segment] += 1
                else:
                    records += self._take(segment)
                if not self.frames % _BATCH_FRAMES:
                    records.append(encode_clock(time_ns=self._now_ns, offset_ns=0))
                    yield records
                    records = []
        except CaptureError as error:
            damage = error
        for conversation in self._table.values():
            records += conversation.finish()
        self._table.clear()
        yield records
        if damage is not None:
            raise damage
        if not self.connections and not self._stopped:
            raise self._nothing()

    def stop(self) -> None:
        """End with what was read so far."""
        self._stopped = True

    def mute(self, key: bytes) -> None:
        """Nothing is saved by it: the bytes are already there, and must be accounted for."""

    def copy_more(self, key: bytes) -> None:
        """Every byte in the file is delivered."""

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        """Likewise."""

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _take(self, segment: Segment) -> list[bytes]:
        ends = (segment.source, segment.target)
        name = min(ends) + max(ends)
        records: list[bytes] = []
        conversation = self._table.get(name)
        if conversation is not None and not conversation.belongs(segment):
            records += conversation.replaced()
            conversation = None
        if conversation is None:
            records += self._make_room()
            self.connections += 1
            conversation = Conversation(
                segment, self.connections, budget=self._budget, listens=self._servers.__contains__
            )
            self._table[name] = conversation
        self._table.move_to_end(name)
        records += conversation.take(segment)
        server = conversation.server
        if server is not None and len(self._servers) < self._max:
            self._servers.add(server)
        return records

    def _make_room(self) -> list[bytes]:
        while self._table:
            oldest = next(iter(self._table.values()))
            if not (oldest.closed and self._now_ns - oldest.last_ns > _QUIET_NS) and len(self._table) < self._max:
                break
            self._table.popitem(last=False)
            if not oldest.closed:
                self.evicted += 1
                return oldest.finish()
        return []

    def _nothing(self) -> CaptureError:
        if not self.frames:
            return CaptureError(f"{self._path} holds no packets", "capture some with: tcpdump -w FILE tcp")
        found = ", ".join(f"{count} frames {what}" for what, count in self.skipped.most_common(5))
        return CaptureError(f"{self._path} holds no TCP: {found}", "capture with: tcpdump -w FILE tcp")
