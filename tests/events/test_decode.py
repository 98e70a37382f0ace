"""Every record made is read back as it was; no other bytes raise anything but RecordError."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelbpf.events import encode, wire
from otelbpf.events.decode import MalformedRecord, RecordError, UnknownRecord, decode
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
from otelbpf.values import as_dict

u8 = st.integers(0, (1 << 8) - 1)
u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
comm = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=15)
key = st.binary(min_size=16, max_size=16)
endpoints = st.binary(min_size=40, max_size=40)
flags = st.builds(lambda low, unseen: low | unseen << 8, u8, st.sampled_from(wire.Unseen))
tcp_state = st.sampled_from(wire.TcpState)


@st.composite
def data_events(draw: st.DrawFn) -> Data:
    data = draw(st.binary(max_size=300))
    length = draw(st.integers(len(data), (1 << 32) - 1))
    tail = draw(st.binary(max_size=min(length, wire.TAIL_BYTES)))
    head = (draw(key), draw(u64), draw(u32), draw(u32), draw(flags), draw(endpoints), draw(u64))
    return Data(*head, length, data, tail, waited=draw(st.integers(-0xFFFF_FFFF, 0xFFFF_FFFF)))


state_events = st.builds(
    State, key, u64, u32, u32, flags, endpoints, *[u64] * 9, *[u32] * 7, tcp_state, tcp_state, comm
)
tls_events = st.builds(
    Tls, key, u64, u32, u32, flags, endpoints, key, u64, u64, u64, u64, u64, u64, st.sampled_from(wire.TlsEvent)
)
process_events = st.builds(ProcessSeen, u64, u32, u64, u64, comm)
clock_events = st.builds(Clock, u64, st.integers(-(1 << 63), (1 << 63) - 1))
losses_events = st.builds(Losses, u64, st.tuples(*[st.tuples(u64, u64)] * len(wire.Loss)))
identity_events = st.builds(
    Identity,
    pid=u32,
    started_ns=u64,
    time_ns=u64,
    comm=text,
    executable=text,
    command=st.lists(text, max_size=4).map(tuple),
    parent_pid=u32,
    owner=text,
    container_id=text,
    systemd_unit=text,
    environment=st.dictionaries(st.sampled_from(["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]), text),
    runtime_name=text,
)
listener_events = st.builds(Listener, key, u64, u32, endpoints, u32, u32, u32, u32)
usage_events = st.builds(Usage, u32, u64, u64, u64, u64, st.integers(-1, 1 << 62), text, u64, u64)
refusals_events = st.builds(Refusals, u64, u64, u64, u64)
answer_events = st.builds(Answer, u64, st.binary(max_size=wire.ANSWER_BYTES))
host_events = st.builds(Host, name=text, id=text, arch=text, os_type=text, os_version=text, packets=st.booleans())
events = st.one_of(
    data_events(),
    state_events,
    tls_events,
    process_events,
    clock_events,
    losses_events,
    identity_events,
    host_events,
    listener_events,
    usage_events,
    refusals_events,
    answer_events,
)


def record_of(event: Event) -> bytes:  # noqa: C901 - one case a kind
    """The record that tells `event`."""
    match event:
        case Data():
            return encode.encode_data(**as_dict(event))
        case State():
            return encode.encode_state(**as_dict(event))
        case Tls():
            return encode.encode_tls(**msgspec.structs.asdict(event))
        case ProcessSeen():
            return encode.encode_process(**msgspec.structs.asdict(event))
        case Clock():
            return encode.encode_clock(**msgspec.structs.asdict(event))
        case Losses():
            return encode.encode_losses(**msgspec.structs.asdict(event))
        case Identity():
            return encode.encode_identity(event)
        case Host():
            return encode.encode_host(event)
        case Answer():
            return encode.encode_answer(time_ns=event.time_ns, message=event.message)
        case Refusals():
            return encode.encode_refusals(event)
        case Usage():
            return encode.encode_usage(event)
        case Listener():
            return encode.encode_listener(**msgspec.structs.asdict(event))


def a_data_record() -> bytes:
    """A data record with a payload of five bytes and a tail of two."""
    return encode.encode_data(
        key=bytes(range(16)), time_ns=1, endpoints=bytes(40), offset=7, length=9, data=b"hello", tail=b"yz"
    )


def patched(record: bytes, offset: int, value: bytes) -> bytes:
    """The record with some of its bytes replaced."""
    return record[:offset] + value + record[offset + len(value) :]


@given(events)
def test_every_event_survives_its_record(event: Event) -> None:
    """decode is the reverse of encode for every kind, to the type of every field."""
    record = record_of(event)

    assert decode(record) == event
    assert repr(decode(record)) == repr(event)


@given(events, st.binary(min_size=1, max_size=40))
def test_bytes_behind_the_record_are_not_part_of_it(event: Event, slack: bytes) -> None:
    """A ring may reserve more than a record fills; its size field says what counts."""
    assert decode(record_of(event) + slack) == event


@given(events, st.data())
def test_a_cut_record_is_malformed(event: Event, data: st.DataObject) -> None:
    """No prefix of a record decodes."""
    record = record_of(event)
    cut = data.draw(st.integers(0, len(record) - 1))

    with pytest.raises(MalformedRecord):
        decode(record[:cut])


@given(events, st.lists(st.tuples(st.integers(0, 1000), u8), max_size=6), st.integers(0, 400))
def test_garbage_raises_nothing_but_record_errors(event: Event, edits: list[tuple[int, int]], keep: int) -> None:
    """The garbage law: mutated and cut records give an event or a RecordError."""
    record = bytearray(record_of(event))
    for position, value in edits:
        record[position % len(record)] = value
    record = record[: len(record) - keep] if keep < len(record) // 2 else record

    try:
        decoded = decode(bytes(record))
    except RecordError:
        return

    assert decode(record_of(decoded)) == decoded or "\ufffd" in getattr(decoded, "comm", "")


@given(st.binary(max_size=400))
@example(b"")
@example(bytes(40))
def test_noise_raises_nothing_but_record_errors(noise: bytes) -> None:
    """Bytes that never were a record are refused: kind 0 does not exist."""
    with pytest.raises(RecordError):
        decode(b"\0\0" + noise)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (2, b"\x00\x09"),  # flags: a reason that does not exist
        (4, b"\x70\0\0\0"),  # size: without the captured bytes
        (4, b"\xff\0\0\0"),  # size: beyond the record
        (88, b"\x04\0\0\0"),  # length: less than what was captured
        (92, b"\x06\0\0\0"),  # captured: more than is there
        (92, b"\xff\xff\xff\xff"),
        (104, b"\x09"),  # tail_length: more than there is room for
    ],
)
def test_a_data_record_that_contradicts_itself(offset: int, value: bytes) -> None:
    """Each field that bounds another is checked."""
    with pytest.raises(MalformedRecord):
        decode(patched(a_data_record(), offset, value))


def test_a_tail_longer_than_the_piece() -> None:
    """The last three bytes of a piece of two do not exist."""
    record = encode.encode_data(key=bytes(16), time_ns=1, endpoints=bytes(40), offset=0, length=2, data=b"", tail=b"yz")

    with pytest.raises(MalformedRecord):
        decode(patched(record, 104, b"\x03"))


@pytest.mark.parametrize("kind", [0, 6, 31, 39, 0x0102, 0xFFFF])
def test_an_unknown_kind(kind: int) -> None:
    """Kinds of another version, and kinds whose low byte looks like one of ours, are unknown."""
    with pytest.raises(UnknownRecord) as caught:
        decode(patched(a_data_record(), 0, kind.to_bytes(2, "little")))

    assert caught.value.outcome == "unknown"


@pytest.mark.parametrize("before_the_end", [20, 19])
def test_a_tcp_state_that_does_not_exist(before_the_end: int) -> None:
    """State 13 is none of the kernel's."""
    record = encode.encode_state(
        key=bytes(16),
        time_ns=1,
        endpoints=bytes(40),
        old_state=wire.TcpState.ESTABLISHED,
        new_state=wire.TcpState.CLOSE,
    )

    with pytest.raises(MalformedRecord):
        decode(patched(record, len(record) - before_the_end, b"\x0d"))


@pytest.mark.parametrize(
    "json",
    [
        b"",
        b"{",
        b"[]",
        b'{"comm":"x"}',
        b'{"pid":8}',
        b'{"pid":7,"time_ns":2}',
        b'{"pid":7,"time_ns":1,"started_ns":-1}',
        b'{"pid":7,"time_ns":1,"comm":"\xff"}',
        b'{"pid":7,"time_ns":1,"x":' + b"[" * 20_000,
    ],
)
def test_an_identity_that_is_not_one(json: bytes) -> None:
    """Broken JSON, another shape, or another process than the header says."""
    header = wire.HEADER.pack(wire.Kind.IDENTITY, 0, wire.HEADER.size + len(json), 1, 0, 0, 7, 7)

    with pytest.raises(MalformedRecord):
        decode(header + json)


def test_a_comm_that_fills_its_field_and_is_not_text() -> None:
    """Names need no UTF-8; the last byte of the field is a NUL in the kernel, and no part of a name."""
    header = wire.HEADER.pack(wire.Kind.PROCESS, 0, wire.PROCESS.size, 1, 0, 0, 7, 7)

    assert decode(header + bytes(16) + b"\xff" * 16 + bytes(8)) == ProcessSeen(1, 7, 0, 0, "\ufffd" * 15)


@pytest.mark.parametrize(
    ("data", "length", "tail", "endpoints"),
    [
        (b"abc", 2, b"", bytes(40)),
        (b"", 1, b"ab", bytes(40)),
        (b"", 20, bytes(9), bytes(40)),
        (b"", 1, b"", bytes(39)),
    ],
)
def test_encode_refuses_what_would_not_fit(data: bytes, length: int, tail: bytes, endpoints: bytes) -> None:
    """struct would cut or fill byte strings silently; the functions do not."""
    with pytest.raises(ValueError, match="bytes"):
        encode.encode_data(key=bytes(16), time_ns=1, offset=0, endpoints=endpoints, data=data, length=length, tail=tail)


def test_endpoints_take_text_and_bytes() -> None:
    """IPv4 is written as IPv4-mapped IPv6, in either form given."""
    raw = encode.encode_endpoints("10.0.0.1", 80, bytes([10, 0, 0, 2]), 50000, network_namespace=5)

    assert raw == (
        bytes(10) + b"\xff\xff\x0a\0\0\x01" + bytes(10) + b"\xff\xff\x0a\0\0\x02" + b"\x50\0\x50\xc3" + b"\x05\0\0\0"
    )
    assert encode.encode_endpoints("::1", 1, "::2", 2)[:32] == bytes(15) + b"\x01" + bytes(15) + b"\x02"
