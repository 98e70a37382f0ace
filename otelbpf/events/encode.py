"""Events to records: the reverse of `decode`, for the records made in user space and for those that stand in for a
kernel's (packets, tests). Every function takes the fields of its event by name; a value that does not fit raises.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

import msgspec

from otelbpf.events import wire
from otelbpf.events.types import Host, Identity, Refusals, Usage

NO_KEY: Final = bytes(16)
NO_ENDPOINTS: Final = bytes(40)
"""Of a TLS session whose socket is not known."""
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2
_json: Final = msgspec.json.Encoder().encode


def _layout(fields: tuple[tuple[str, str], ...]) -> struct.Struct:
    """What follows the header (and the endpoints) in a record; reserved bytes are filled with zeros."""
    return struct.Struct("<" + "".join(code.replace("s", "x") if name == "reserved" else code for name, code in fields))


_data: Final = _layout(wire.DATA_FIELDS).pack
_state: Final = _layout(wire.STATE_FIELDS).pack
_tls: Final = _layout(wire.TLS_FIELDS).pack
_process: Final = _layout(wire.PROCESS_FIELDS).pack
_listener: Final = _layout(wire.LISTENER_FIELDS).pack
_clock: Final = struct.Struct("<q").pack
_losses: Final = struct.Struct("<" + "QQ" * len(wire.Loss)).pack
_KEY: Final = struct.Struct("<QQ")


def encode_key(socket: int, epoch_ns: int) -> bytes:
    """The 16 bytes that tell a socket: its pointer and the time its life was first seen."""
    return _KEY.pack(socket, epoch_ns)


def encode_endpoints(
    local_address: str | bytes,
    local_port: int,
    remote_address: str | bytes,
    remote_port: int,
    *,
    network_namespace: int = 0,
) -> bytes:
    """Raw `struct endpoints`; addresses as text or as their 4 or 16 bytes."""
    return wire.ENDPOINTS.pack(
        _address(local_address), _address(remote_address), local_port, remote_port, network_namespace
    )


def encode_data(
    *,
    key: bytes,
    time_ns: int,
    endpoints: bytes,
    offset: int,
    data: bytes,
    length: int | None = None,
    flags: int = 0,
    tail: bytes = b"",
    waited: int = 0,
    pid: int = 0,
    tid: int = 0,
) -> bytes:
    """A data record; without `length` all of the piece was captured."""
    if length is None:
        length = len(data)
    if len(data) > length or len(tail) > min(length, wire.TAIL_BYTES):
        raise ValueError(f"{len(data)} bytes and a tail of {len(tail)} captured of {length}")
    body = _ends(endpoints) + _data(offset, length, len(data), tail, len(tail), waited > 0, abs(waited)) + data
    return _record(wire.Kind.DATA, body, time_ns, flags=flags, key=key, pid=pid, tid=tid)


def encode_state(
    *,
    key: bytes,
    time_ns: int,
    endpoints: bytes,
    old_state: wire.TcpState,
    new_state: wire.TcpState,
    flags: int = 0,
    sent: int = 0,
    received: int = 0,
    arrived: int = 0,
    bytes_acked: int = 0,
    bytes_received: int = 0,
    lost_sent: int = 0,
    lost_received: int = 0,
    muted_sent: int = 0,
    muted_received: int = 0,
    error: int = 0,
    retransmits: int = 0,
    smoothed_rtt_us: int = 0,
    buffer_limited_ms: int = 0,
    window_limited_ms: int = 0,
    first_sent: int = 0,
    first_received: int = 0,
    comm: str = "",
    pid: int = 0,
    tid: int = 0,
) -> bytes:
    """A state record."""
    body = _ends(endpoints) + _state(
        sent,
        received,
        arrived,
        bytes_acked,
        bytes_received,
        lost_sent,
        lost_received,
        muted_sent,
        muted_received,
        error,
        retransmits,
        smoothed_rtt_us,
        buffer_limited_ms,
        window_limited_ms,
        first_sent,
        first_received,
        old_state,
        new_state,
        _comm(comm),
    )
    return _record(wire.Kind.STATE, body, time_ns, flags=flags, key=key, pid=pid, tid=tid)


def encode_tls(
    *,
    key: bytes,
    time_ns: int,
    event: wire.TlsEvent,
    endpoints: bytes = NO_ENDPOINTS,
    carrier: bytes = NO_KEY,
    flags: int = wire.Flag.PLAIN,
    sent: int = 0,
    received: int = 0,
    lost_sent: int = 0,
    lost_received: int = 0,
    muted_sent: int = 0,
    muted_received: int = 0,
    pid: int = 0,
    tid: int = 0,
) -> bytes:
    """A TLS record."""
    counters = (sent, received, lost_sent, lost_received, muted_sent, muted_received)
    body = _ends(endpoints) + _tls(*_KEY.unpack(carrier), *counters, event)
    return _record(wire.Kind.TLS, body, time_ns, flags=flags, key=key, pid=pid, tid=tid)


def encode_process(
    *, time_ns: int, pid: int, started_ns: int = 0, cgroup: int = 0, comm: str = "", forked_from: int = 0
) -> bytes:
    """A process record."""
    body = _process(started_ns, cgroup, _comm(comm), forked_from, 0)
    return _record(wire.Kind.PROCESS, body, time_ns, pid=pid, tid=pid)


def encode_answer(*, time_ns: int, message: bytes) -> bytes:
    """An answer record."""
    return _record(wire.Kind.ANSWER, message, time_ns)


def encode_clock(*, time_ns: int, offset_ns: int) -> bytes:
    """A clock record."""
    return _record(wire.Kind.CLOCK, _clock(offset_ns), time_ns)


def encode_losses(*, time_ns: int, counts: tuple[tuple[int, int], ...]) -> bytes:
    """A losses record: (events, bytes) by `wire.Loss`, all of them."""
    return _record(wire.Kind.LOSSES, _losses(*(number for pair in counts for number in pair)), time_ns)


def encode_listener(
    *, key: bytes, time_ns: int, pid: int, endpoints: bytes, depth: int, deepest: int, limit: int, dropped: int
) -> bytes:
    """A listener record."""
    body = _ends(endpoints) + _listener(depth, deepest, limit, dropped)
    return _record(wire.Kind.LISTENER, body, time_ns, key=key, pid=pid, tid=pid)


def encode_identity(identity: Identity) -> bytes:
    """An identity record."""
    return _record(wire.Kind.IDENTITY, _json(identity), identity.time_ns, pid=identity.pid, tid=identity.pid)


def encode_usage(usage: Usage) -> bytes:
    """A usage record."""
    return _record(wire.Kind.USAGE, _json(usage), usage.time_ns, pid=usage.pid, tid=usage.pid)


def encode_refusals(refusals: Refusals) -> bytes:
    """A refusals record."""
    return _record(wire.Kind.REFUSALS, _json(refusals), refusals.time_ns)


def encode_host(host: Host, *, time_ns: int = 0) -> bytes:
    """A host record."""
    return _record(wire.Kind.HOST, _json(host), time_ns)


def _record(
    kind: wire.Kind, body: bytes, time_ns: int, *, flags: int = 0, key: bytes = NO_KEY, pid: int = 0, tid: int = 0
) -> bytes:
    return wire.HEADER.pack(kind, flags, wire.HEADER.size + len(body), time_ns, *_KEY.unpack(key), pid, tid) + body


def _ends(endpoints: bytes) -> bytes:
    if len(endpoints) != wire.ENDPOINTS.size:
        raise ValueError(f"endpoints of {len(endpoints)} bytes")
    return endpoints


def _address(address: str | bytes) -> bytes:
    raw = ipaddress.ip_address(address).packed
    return raw if len(raw) == 16 else _IPV4_MAPPED + raw


def _comm(comm: str) -> bytes:
    """As the kernel keeps it: at most 15 bytes and a NUL."""
    return comm.encode()[: wire.COMM_BYTES - 1]
