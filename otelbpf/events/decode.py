"""Records to events: `decode` returns the event or raises one of two errors; no bytes make it do anything else.

A record whose size is not what its kind demands, or whose fields contradict each other, is malformed. A record of a
kind this version does not know is unknown. Both are for the caller to count; neither is a reason to stop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from otelbpf.events import wire
from otelbpf.events.traffic import Data, State
from otelbpf.events.types import (
    Answer,
    Clock,
    Event,
    Host,
    Identity,
    Listener,
    Losses,
    ProcessSeen,
    Refusals,
    Tls,
    Usage,
)


class RecordError(ValueError):
    """A record that cannot be decoded; `outcome` is the word it is counted under."""

    outcome: ClassVar[str] = "malformed"


class MalformedRecord(RecordError):
    """Too short, or fields that contradict each other."""


class UnknownRecord(RecordError):
    """A kind this version does not know."""

    outcome: ClassVar[str] = "unknown"


_T = TypeVar("_T")


def _only(wanted: str, *groups: tuple[tuple[str, str], ...]) -> struct.Struct:
    """The layout with every field that is not wanted skipped: unpacking a field costs more than slicing twice."""
    names = wanted.split()
    return struct.Struct(
        "<"
        + "".join(
            code if name in names else f"{struct.calcsize('<' + code)}x" for group in groups for name, code in group
        )
    )


# The key of a socket is its pointer and its epoch, which stand side by side in the header.
_KEY: Final = 16
_KEY_END: Final = 32
_ENDPOINTS: Final[int] = wire.HEADER.size
_ENDPOINTS_END: Final[int] = _ENDPOINTS + wire.ENDPOINTS.size
_DATA_KIND: Final = int(wire.Kind.DATA)
_DATA_BYTES: Final[int] = wire.DATA.size
_TAIL: Final[int] = _DATA_BYTES - struct.calcsize("<" + "".join(code for _, code in wire.DATA_FIELDS[3:]))
_FLAGS_END: Final[int] = (max(wire.Unseen) + 1) << 8
_TCP_STATES: Final = {int(state): state for state in wire.TcpState}

_header: Final = _only("kind flags size time_ns pid tid", wire.HEADER_FIELDS).unpack_from
_data: Final[Callable[[bytes], tuple[int, int, int, int, int, int, int, int, int, int, int, int]]] = _only(
    "kind flags size time_ns pid tid offset length captured tail_length waited_all waited_us",
    wire.HEADER_FIELDS,
    wire.ENDPOINTS_FIELDS,
    wire.DATA_FIELDS,
).unpack_from
_STATE_LAYOUT: Final = _only(
    " ".join(name for name, _ in wire.STATE_FIELDS if name != "reserved"),
    wire.HEADER_FIELDS,
    wire.ENDPOINTS_FIELDS,
    wire.STATE_FIELDS,
)
_TLS_EVENTS: Final = {int(event): event for event in wire.TlsEvent}
_TLS_LAYOUT: Final = _only(
    "sent received lost_sent lost_received muted_sent muted_received event",
    wire.HEADER_FIELDS,
    wire.ENDPOINTS_FIELDS,
    wire.TLS_FIELDS,
)
_PROCESS_LAYOUT: Final = _only("started_ns cgroup comm forked_from", wire.HEADER_FIELDS, wire.PROCESS_FIELDS)
_CLOCK_OFFSET: Final = struct.Struct("<q")
_LOSS_COUNTS: Final = struct.Struct("<" + "QQ" * len(wire.Loss))
_LISTENER: Final = _only("depth deepest limit dropped", wire.HEADER_FIELDS, wire.ENDPOINTS_FIELDS, wire.LISTENER_FIELDS)
_identity: Final = msgspec.json.Decoder(Identity).decode
_usage: Final = msgspec.json.Decoder(Usage).decode
_refusals: Final = msgspec.json.Decoder(Refusals).decode
_host: Final = msgspec.json.Decoder(Host).decode


def decode(record: bytes) -> Event:
    """The event a record tells. Raises MalformedRecord or UnknownRecord."""
    if len(record) < _DATA_BYTES or record[0] != _DATA_KIND or record[1]:
        return _decode_other(record)
    _, flags, size, time_ns, pid, tid, offset, length, captured, tail_length, waited_all, waited = _data(record)
    end = _DATA_BYTES + captured
    if end > size or size > len(record) or captured > length or flags >= _FLAGS_END:
        raise MalformedRecord(f"data record: size {size}, length {length}, captured {captured}, flags {flags:#x}")
    if tail_length:
        if tail_length > wire.TAIL_BYTES or tail_length > length:
            raise MalformedRecord(f"data record: a tail of {tail_length} bytes")
        tail = record[_TAIL : _TAIL + tail_length]
    else:
        tail = b""
    return Data(
        record[_KEY:_KEY_END],
        time_ns,
        pid,
        tid,
        flags,
        record[_ENDPOINTS:_ENDPOINTS_END],
        offset,
        length,
        record[_DATA_BYTES:end],
        tail,
        waited if waited_all else -waited,
    )


def _decode_other(record: bytes) -> Event:
    if len(record) < wire.HEADER.size:
        raise MalformedRecord(f"{len(record)} bytes: no room for a header")
    kind, flags, size, time_ns, pid, tid = _header(record)
    if kind == _DATA_KIND:
        raise MalformedRecord(f"data record: {len(record)} bytes")
    try:
        smallest, read = _READERS[kind]
    except KeyError:
        raise UnknownRecord(f"record kind {kind}") from None
    if not smallest <= size <= len(record) or flags >= _FLAGS_END:
        raise MalformedRecord(f"record kind {kind}: size {size} in {len(record)} bytes, flags {flags:#x}")
    return read(record[:size], flags, time_ns, pid, tid)


def _state(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> State:
    *counters, old_state, new_state, comm = _STATE_LAYOUT.unpack_from(record)
    try:
        old, new = _TCP_STATES[old_state], _TCP_STATES[new_state]
    except KeyError:
        raise MalformedRecord(f"TCP states {old_state}, {new_state}") from None
    fields: list[Any] = [
        record[_KEY:_KEY_END],
        time_ns,
        pid,
        tid,
        flags,
        record[_ENDPOINTS:_ENDPOINTS_END],
        *counters,
        old,
        new,
        _text(comm),
    ]
    return State(*fields)


def _tls(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Tls:
    *counters, number = _TLS_LAYOUT.unpack_from(record)
    try:
        event = _TLS_EVENTS[number]
    except KeyError:
        raise MalformedRecord(f"TLS event {number}") from None
    fields: list[Any] = [
        record[_KEY:_KEY_END],
        time_ns,
        pid,
        tid,
        flags,
        record[_ENDPOINTS:_ENDPOINTS_END],
        record[_ENDPOINTS_END : _ENDPOINTS_END + 16],
        *counters,
        event,
    ]
    return Tls(*fields)


def _process(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> ProcessSeen:
    started_ns, cgroup, comm, forked_from = _PROCESS_LAYOUT.unpack_from(record)
    return ProcessSeen(time_ns, pid, started_ns, cgroup, _text(comm), forked_from)


def _clock(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Clock:
    return Clock(time_ns, _CLOCK_OFFSET.unpack_from(record, wire.HEADER.size)[0])


def _losses(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Losses:
    counts = _LOSS_COUNTS.unpack_from(record, wire.HEADER.size)
    return Losses(time_ns, tuple(zip(counts[::2], counts[1::2], strict=True)))


def _listener(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Listener:
    return Listener(
        record[_KEY:_KEY_END], time_ns, pid, record[_ENDPOINTS:_ENDPOINTS_END], *_LISTENER.unpack_from(record)
    )


def _answer(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Answer:
    return Answer(time_ns, record[wire.HEADER.size :])


def _identity_seen(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Identity:
    identity = _json(_identity, record)
    if identity.pid != pid or identity.time_ns != time_ns or not 0 <= identity.started_ns < 1 << 64:
        raise MalformedRecord(f"identity of {identity.pid} in a record of {pid}")
    return identity


def _usage_seen(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Usage:
    return _json(_usage, record)


def _refusals_seen(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Refusals:
    return _json(_refusals, record)


def _host_seen(record: bytes, flags: int, time_ns: int, pid: int, tid: int) -> Host:
    return _json(_host, record)


def _json(read: Callable[[bytes], _T], record: bytes) -> _T:
    try:
        return read(record[wire.HEADER.size :])
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, not of this shape; nested without end
        raise MalformedRecord(f"JSON of a record: {error}") from None


def _text(comm: bytes) -> str:
    # A name has at most 15 bytes, and a NUL behind it (TASK_COMM_LEN).
    return comm[:15].partition(b"\0")[0].decode("utf-8", "replace")


_READERS: Final[dict[int, tuple[int, Callable[[bytes, int, int, int, int], Event]]]] = {
    wire.Kind.STATE: (wire.STATE.size, _state),
    wire.Kind.TLS: (wire.TLS.size, _tls),
    wire.Kind.PROCESS: (wire.PROCESS.size, _process),
    wire.Kind.ANSWER: (wire.HEADER.size, _answer),
    wire.Kind.CLOCK: (wire.CLOCK.size, _clock),
    wire.Kind.IDENTITY: (wire.HEADER.size, _identity_seen),
    wire.Kind.LOSSES: (wire.LOSSES.size, _losses),
    wire.Kind.USAGE: (wire.HEADER.size, _usage_seen),
    wire.Kind.REFUSALS: (wire.HEADER.size, _refusals_seen),
    wire.Kind.LISTENER: (wire.LISTENER.size, _listener),
    wire.Kind.HOST: (wire.HEADER.size, _host_seen),
}
