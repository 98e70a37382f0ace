"""What the probes remember of a socket (struct socket_entry of probes/include/socket.h), and the record made of it when
no record of the kernel's will come: for sockets still open at the end, and for an end that found no room in the ring.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

import msgspec

from otelbpf.events import wire
from otelbpf.events.encode import encode_key, encode_state

ENTRY_FIELDS: Final = (
    ("epoch_ns", "Q"),
    ("endpoints", "40s"),
    ("end_received", "Q"),
    ("end_sent", "Q"),
    ("lost_received", "Q"),
    ("lost_sent", "Q"),
    ("muted_received", "Q"),
    ("muted_sent", "Q"),
    ("closed_ns", "Q"),
    ("sent", "Q"),
    ("received", "Q"),
    ("arrived", "Q"),
    ("bytes_acked", "Q"),
    ("bytes_received", "Q"),
    ("error", "I"),
    ("retransmits", "I"),
    ("smoothed_rtt_us", "I"),
    ("buffer_limited_ms", "I"),
    ("window_limited_ms", "I"),
    ("base_received", "I"),
    ("base_sent", "I"),
    ("budget_received", "I"),
    ("budget_sent", "I"),
    ("frames_received", "16s"),
    ("frames_sent", "16s"),
    ("command_generation", "I"),
    ("exec_generation", "I"),
    ("pid", "I"),
    ("tid", "I"),
    ("flags", "H"),
    ("marks", "B"),
    ("verdict", "B"),
    ("life", "B"),
    ("state", "B"),
    ("old_state", "B"),
    ("direction", "B"),
    ("told", "B"),
    ("busy", "2s"),
)
ENTRY: Final = struct.Struct("<" + "".join(code for _, code in ENTRY_FIELDS) + "x")


class Life(enum.IntEnum):
    """How far a socket is; enum life."""

    OPEN = 0
    ENDING = 1
    CLOSED = 2


class Mark(enum.IntFlag):
    """enum mark."""

    MUTED = 1
    MORE = 2
    OPENED = 4
    ASKED = 8
    KERNEL = 16
    FRAMES = 32


class SocketEntry(msgspec.Struct, frozen=True, gc=False):
    """One socket of the probes' table, in the order of ENTRY_FIELDS."""

    epoch_ns: int
    endpoints: bytes
    end_received: int
    end_sent: int
    lost_received: int
    lost_sent: int
    muted_received: int
    muted_sent: int
    closed_ns: int
    sent: int
    received: int
    arrived: int
    bytes_acked: int
    bytes_received: int
    error: int
    retransmits: int
    smoothed_rtt_us: int
    buffer_limited_ms: int
    window_limited_ms: int
    base_received: int
    base_sent: int
    budget_received: int
    budget_sent: int
    frames_received: bytes
    frames_sent: bytes
    command_generation: int
    exec_generation: int
    pid: int
    tid: int
    flags: int
    marks: int
    verdict: int
    life: int
    state: int
    old_state: int
    direction: int
    told: int
    busy: bytes

    @classmethod
    def parse(cls, value: bytes) -> SocketEntry:
        """From a value of the map."""
        return cls(*ENTRY.unpack(value))

    @property
    def to_be_told(self) -> bool:
        """Records of this socket were due, and its end was not told."""
        return bool(self.told) and self.life != Life.CLOSED


def last_word(socket: int, entry: SocketEntry, *, time_ns: int) -> bytes:
    """The state record that settles the account of a socket, told by its pointer. One still open has `new_state` equal
    to `old_state` and stands where its last bytes were told; what the kernel holds beyond that was never seen."""
    still_open = entry.life == Life.OPEN
    joined = entry.flags & wire.Flag.JOINED
    sent, received, arrived = entry.sent, max(entry.received, entry.end_received), entry.arrived
    if still_open:
        sent, received, arrived = entry.end_sent, entry.end_received, entry.end_received
    return encode_state(
        key=encode_key(socket, entry.epoch_ns),
        time_ns=time_ns if still_open else entry.closed_ns,
        endpoints=entry.endpoints,
        old_state=wire.TcpState(entry.state if still_open else entry.old_state),
        new_state=wire.TcpState(entry.state if still_open else wire.TcpState.CLOSE),
        flags=entry.flags,
        sent=sent,
        received=received,
        arrived=max(arrived, received),
        bytes_acked=0 if still_open else entry.bytes_acked,
        bytes_received=0 if still_open else entry.bytes_received,
        lost_sent=entry.lost_sent,
        lost_received=entry.lost_received,
        muted_sent=entry.muted_sent,
        muted_received=entry.muted_received,
        error=entry.error,
        retransmits=entry.retransmits,
        smoothed_rtt_us=entry.smoothed_rtt_us,
        buffer_limited_ms=entry.buffer_limited_ms,
        window_limited_ms=entry.window_limited_ms,
        first_sent=0 if joined else entry.base_sent,
        first_received=0 if joined else entry.base_received,
        pid=entry.pid,
        tid=entry.tid,
    )
