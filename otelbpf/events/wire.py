"""The layout of records, mirroring probes/include/events.h field for field (tests/events/test_wire.py proves it).

Every layout is a `struct.Struct` in native little-endian order whose padding is written out, as in the header.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

ABI: Final = 4
COMM_BYTES: Final = 16
TAIL_BYTES: Final = 8
ANSWER_BYTES: Final = 1024


class Kind(enum.IntEnum):
    """What a record tells; kinds from 32 on are made in user space."""

    STATE = 1
    DATA = 2
    PROCESS = 3
    TLS = 4
    ANSWER = 5
    """A message of a name server (RFC 1035 section 4.1), behind the header."""
    CLOCK = 32
    """u64: nanoseconds to add to `time_ns` to get Unix time; `time_ns` is when that held."""
    IDENTITY = 33
    """JSON of `events.types.Identity`: what user space read about a process."""
    LOSSES = 34
    """The kernel's loss counters, summed over CPUs: LOSS_REASONS pairs of u64 (events, bytes)."""
    HOST = 35
    """JSON of `events.types.Host`: the machine the records come from."""
    USAGE = 37
    """JSON of `events.types.Usage`: what a process has used of the processors."""
    REFUSALS = 38
    """JSON of `events.types.Refusals`: connections that a network namespace had no room for."""
    LISTENER = 36
    """How it stands with a socket that listens: endpoints, then LISTENER_FIELDS."""


class Flag(enum.IntFlag):
    """Low byte of `record_header.flags`."""

    JOINED = 1
    CLIENT = 2
    SERVER = 4
    SENT = 8
    CONTINUED = 16
    PLAIN = 32
    UNFINISHED = 64
    FILLED = 128


class Unseen(enum.IntEnum):
    """High byte of `record_header.flags` of a data record: why bytes beyond the captured prefix were not copied."""

    NONE = 0
    BUDGET = 1
    SENDFILE = 2
    IO_URING = 3
    SYSCALL = 4
    SEGMENTS = 5
    FAULT = 6
    TRUNC = 7
    KERNEL_TLS = 8


class Loss(enum.IntEnum):
    """Index into the kernel's loss counters."""

    RING_FULL_DATA = 0
    RING_FULL_STATE = 1
    RING_FULL_PROCESS = 2
    TABLE_FULL = 3
    FILTERED = 4
    MUTED = 5
    OWN = 6
    NO_ENTRY = 7


class TlsEvent(enum.IntEnum):
    """What a TLS record tells."""

    BOUND = 1
    SHUT = 2
    ENDED = 3
    REFUSED = 4


class TcpState(enum.IntEnum):
    """include/net/tcp_states.h"""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


# Field names and struct codes, in order. Byte strings ("16s") are arrays of u8; names of the form header.X are the
# members of the nested struct.
HEADER_FIELDS: Final = (
    ("kind", "H"),
    ("flags", "H"),
    ("size", "I"),
    ("time_ns", "Q"),
    ("socket", "Q"),
    ("epoch_ns", "Q"),
    ("pid", "I"),
    ("tid", "I"),
)
ENDPOINTS_FIELDS: Final = (
    ("local_address", "16s"),
    ("remote_address", "16s"),
    ("local_port", "H"),
    ("remote_port", "H"),
    ("network_namespace", "I"),
)
DATA_FIELDS: Final = (
    ("offset", "Q"),
    ("length", "I"),
    ("captured", "I"),
    ("tail", "8s"),
    ("tail_length", "B"),
    ("waited_all", "B"),
    ("reserved", "2s"),
    ("waited_us", "I"),
)
STATE_FIELDS: Final = (
    ("sent", "Q"),
    ("received", "Q"),
    ("arrived", "Q"),
    ("bytes_acked", "Q"),
    ("bytes_received", "Q"),
    ("lost_sent", "Q"),
    ("lost_received", "Q"),
    ("muted_sent", "Q"),
    ("muted_received", "Q"),
    ("error", "I"),
    ("retransmits", "I"),
    ("smoothed_rtt_us", "I"),
    ("buffer_limited_ms", "I"),
    ("window_limited_ms", "I"),
    ("first_sent", "I"),
    ("first_received", "I"),
    ("old_state", "B"),
    ("new_state", "B"),
    ("reserved", "2s"),
    ("comm", "16s"),
)
TLS_FIELDS: Final = (
    ("carrier", "Q"),
    ("carrier_epoch_ns", "Q"),
    ("sent", "Q"),
    ("received", "Q"),
    ("lost_sent", "Q"),
    ("lost_received", "Q"),
    ("muted_sent", "Q"),
    ("muted_received", "Q"),
    ("event", "B"),
    ("reserved", "7s"),
)
PROCESS_FIELDS: Final = (
    ("started_ns", "Q"),
    ("cgroup", "Q"),
    ("comm", "16s"),
    ("forked_from", "I"),
    ("reserved", "I"),
)


LISTENER_FIELDS: Final = (
    ("depth", "I"),
    ("deepest", "I"),
    ("limit", "I"),
    ("dropped", "I"),
)


def _layout(*groups: tuple[tuple[str, str], ...]) -> struct.Struct:
    return struct.Struct("<" + "".join(code for group in groups for _, code in group))


HEADER: Final = _layout(HEADER_FIELDS)
ENDPOINTS: Final = _layout(ENDPOINTS_FIELDS)
DATA: Final = _layout(HEADER_FIELDS, ENDPOINTS_FIELDS, DATA_FIELDS)
STATE: Final = _layout(HEADER_FIELDS, ENDPOINTS_FIELDS, STATE_FIELDS)
TLS: Final = _layout(HEADER_FIELDS, ENDPOINTS_FIELDS, TLS_FIELDS)
PROCESS: Final = _layout(HEADER_FIELDS, PROCESS_FIELDS)
LISTENER: Final = _layout(HEADER_FIELDS, ENDPOINTS_FIELDS, LISTENER_FIELDS)
CLOCK: Final = struct.Struct("<" + "".join(code for _, code in HEADER_FIELDS) + "q")
LOSSES: Final = struct.Struct("<" + "".join(code for _, code in HEADER_FIELDS) + "QQ" * len(Loss))
