"""Packets for tests: two ends that speak TCP, the files that hold what they said, and what a source makes of it."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import dpkt
import msgspec

from otelbpf.errors import CaptureError
from otelbpf.events.decode import decode
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import Clock, Event, Host
from otelbpf.events.wire import Flag, TcpState
from otelbpf.sources.pcap import PacketSource
from otelbpf.sources.segments import ACK, FIN, RST, SYN

CLIENT, SERVER = 0, 1
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
ETHERNET, RAW = 1, 101


class Packet(msgspec.Struct, frozen=True):
    """What goes over the wire, from the IP header on."""

    time_ns: int
    data: bytes


class Talk:
    """One TCP connection; each method puts a packet on the wire, one millisecond after the last."""

    def __init__(
        self,
        *,
        client: tuple[str, int] = ("10.0.0.2", 40000),
        server: tuple[str, int] = ("10.0.0.1", 80),
        first: tuple[int, int] = (1000, 5000),
        start_ns: int = START_NS,
    ) -> None:
        """`first` are the initial sequence numbers."""
        self.ends = (client, server)
        self.sequence = list(first)
        self.packets: list[Packet] = []
        self.now_ns = start_ns

    def open(self) -> Talk:
        """The handshake."""
        self.put(CLIENT, SYN, acknowledge=False)
        self.put(SERVER, SYN | ACK)
        return self.acknowledge(CLIENT)

    def say(self, side: int, data: bytes, *, acknowledge: bool = True) -> Talk:
        """Bytes of one side, and their acknowledgement."""
        self.put(side, ACK, data)
        return self.acknowledge(1 - side) if acknowledge else self

    def acknowledge(self, side: int) -> Talk:
        """An empty segment."""
        return self.put(side, ACK)

    def end(self, side: int) -> Talk:
        """FIN."""
        return self.put(side, FIN | ACK)

    def reset(self, side: int) -> Talk:
        """RST."""
        return self.put(side, RST | ACK)

    def close(self) -> Talk:
        """Both sides are done, the client first."""
        return self.end(CLIENT).end(SERVER).acknowledge(CLIENT)

    def put(self, side: int, flags: int, data: bytes = b"", *, acknowledge: bool = True, back: int = 0) -> Talk:
        """Any segment; `back` begins it that many bytes before what was said last."""
        tcp = dpkt.tcp.TCP(
            sport=self.ends[side][1],
            dport=self.ends[1 - side][1],
            seq=(self.sequence[side] - back) % (1 << 32),
            ack=self.sequence[1 - side] % (1 << 32) if acknowledge else 0,
            flags=flags,
            data=data,
        )
        self.packets.append(Packet(self.now_ns, ip_packet(self.ends[side][0], self.ends[1 - side][0], bytes(tcp))))
        self.now_ns += STEP_NS
        self.sequence[side] += max(len(data) - back, 0) + bool(flags & (SYN | FIN))
        return self


def ip_packet(source: str, target: str, payload: bytes, *, protocol: int = 6) -> bytes:
    """An IP packet of the version of its addresses."""
    src, dst = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    if len(src) == 16:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + src + dst + payload
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0) + src + dst + payload


def ethernet(data: bytes, *, tags: bytes = b"") -> bytes:
    """An Ethernet frame around an IP packet."""
    return bytes(12) + tags + (b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00") + data


def pcap(
    packets: Iterable[Packet],
    *,
    link_type: int = RAW,
    order: str = "<",
    nanoseconds: bool = True,
    snapshot_bytes: int = 262144,
) -> bytes:
    """A pcap file."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snapshot_bytes, link_type)]
    for packet in packets:
        seconds, fraction = divmod(packet.time_ns, 1_000_000_000)
        captured = packet.data[:snapshot_bytes]
        parts += [
            struct.pack(
                order + "IIII",
                seconds,
                fraction if nanoseconds else fraction // 1000,
                len(captured),
                len(packet.data),
            ),
            captured,
        ]
    return b"".join(parts)


def events_of(path: Path, packets: Iterable[Packet] | bytes, **limits: int) -> list[Event]:
    """What a source makes of a file; every record must decode."""
    events, error = read(path, packets, **limits)
    assert error is None, error
    return events


def read(path: Path, packets: Iterable[Packet] | bytes, **limits: int) -> tuple[list[Event], CaptureError | None]:
    """The events of a file, and what it ends with. Nothing stays held back."""
    path.write_bytes(packets if isinstance(packets, bytes) else pcap(packets))
    source = PacketSource(path, **limits)
    events: list[Event] = []
    error = None
    try:
        for batch in source.batches():
            events += map(decode, batch)
    except CaptureError as caught:
        error = caught
    source.close()
    assert source._budget.used == 0
    assert isinstance(events[0], Host)
    assert events[0].packets
    return events, error


def told(events: Sequence[Event]) -> list[str]:
    """The events of connections, one word or so each: what a test compares."""
    return [_word(event) for event in events if not isinstance(event, Host | Clock)]


def _word(event: Event) -> str:
    joined = "joined " if isinstance(event, Data | State) and event.flags & Flag.JOINED else ""
    if isinstance(event, Data):
        side = "<" if event.flags & Flag.SENT else ">"
        missing = event.length - len(event.data)
        text = event.data.decode("latin-1") + (f"[{missing}]" if missing else "")
        return f"{joined}{event.offset}{side}{text}"
    assert isinstance(event, State)
    if event.old_state is event.new_state:
        return f"{joined}still open {event.received}/{event.sent}"
    error = f" error {event.error}" if event.error else ""
    totals = f" {event.received}/{event.sent}" if event.new_state is TcpState.CLOSE else ""
    return f"{joined}{event.new_state.name}{error}{totals}"


def streams(events: Sequence[Event]) -> dict[bytes, tuple[bytes, bytes]]:
    """What each connection's server received and sent. Records must come in order, without overlap; a byte that was
    not captured reads as NUL."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for event in events:
        if isinstance(event, Data):
            both = list(found.get(event.key, (b"", b"")))
            side = int(bool(event.flags & Flag.SENT))
            assert event.offset == len(both[side])
            both[side] += event.data.ljust(event.length, b"\0")
            found[event.key] = (both[0], both[1])
    return found
