"""What a socket did: the events there are most of."""

from __future__ import annotations

from typing import Final

from otelbpf.events.wire import TcpState, Unseen
from otelbpf.values import Value


class Data(Value):
    """Bytes one system call sent or received: `length` at stream offset `offset`, of which `data` was copied."""

    __match_args__ = (
        "key",
        "time_ns",
        "pid",
        "tid",
        "flags",
        "endpoints",
        "offset",
        "length",
        "data",
        "tail",
        "waited",
    )

    def __init__(
        self,
        key: bytes,
        time_ns: int,
        pid: int,
        tid: int,
        flags: int,
        endpoints: bytes,
        offset: int,
        length: int,
        data: bytes,
        tail: bytes,
        waited: int = 0,
    ) -> None:
        self.key: Final = key
        self.time_ns: Final = time_ns
        self.pid: Final = pid
        self.tid: Final = tid
        self.flags: Final = flags
        self.endpoints: Final = endpoints
        """Raw `struct endpoints` (40 bytes); the same for every record of a socket."""
        self.offset: Final = offset
        self.length: Final = length
        self.data: Final = data
        self.tail: Final = tail
        """The last bytes of the piece, where `data` is shorter than `length`; at most TAIL_BYTES."""
        self.waited: Final = waited
        """One more than the microseconds that the call's first byte had lain in the socket when it was read; negative
        where that is not known of all its bytes, 0 where it is known of none."""

    @property
    def unseen(self) -> Unseen:
        """Why `data` is shorter than `length`."""
        return Unseen(self.flags >> 8)


class State(Value):
    """A TCP socket went from one state to another; the counters stand as struct state_record documents them."""

    __match_args__ = (
        "key",
        "time_ns",
        "pid",
        "tid",
        "flags",
        "endpoints",
        "sent",
        "received",
        "arrived",
        "bytes_acked",
        "bytes_received",
        "lost_sent",
        "lost_received",
        "muted_sent",
        "muted_received",
        "error",
        "retransmits",
        "smoothed_rtt_us",
        "buffer_limited_ms",
        "window_limited_ms",
        "first_sent",
        "first_received",
        "old_state",
        "new_state",
        "comm",
    )

    def __init__(
        self,
        key: bytes,
        time_ns: int,
        pid: int,
        tid: int,
        flags: int,
        endpoints: bytes,
        sent: int,
        received: int,
        arrived: int,
        bytes_acked: int,
        bytes_received: int,
        lost_sent: int,
        lost_received: int,
        muted_sent: int,
        muted_received: int,
        error: int,
        retransmits: int,
        smoothed_rtt_us: int,
        buffer_limited_ms: int,
        window_limited_ms: int,
        first_sent: int,
        first_received: int,
        old_state: TcpState,
        new_state: TcpState,
        comm: str,
    ) -> None:
        self.key: Final = key
        self.time_ns: Final = time_ns
        self.pid: Final = pid
        self.tid: Final = tid
        self.flags: Final = flags
        self.endpoints: Final = endpoints
        self.sent: Final = sent
        self.received: Final = received
        self.arrived: Final = arrived
        self.bytes_acked: Final = bytes_acked
        self.bytes_received: Final = bytes_received
        self.lost_sent: Final = lost_sent
        self.lost_received: Final = lost_received
        self.muted_sent: Final = muted_sent
        self.muted_received: Final = muted_received
        self.error: Final = error
        self.retransmits: Final = retransmits
        self.smoothed_rtt_us: Final = smoothed_rtt_us
        self.buffer_limited_ms: Final = buffer_limited_ms
        self.window_limited_ms: Final = window_limited_ms
        self.first_sent: Final = first_sent
        self.first_received: Final = first_received
        self.old_state: Final = old_state
        self.new_state: Final = new_state
        self.comm: Final = comm
