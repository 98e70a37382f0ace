"""Files are told apart by their first bytes, and packets that others captured are understood."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otelbpf.errors import CaptureError
from otelbpf.events.capture import CaptureWriter
from otelbpf.events.decode import decode
from otelbpf.events.encode import encode_clock
from otelbpf.events.traffic import Data
from otelbpf.events.types import Clock, Event
from otelbpf.events.wire import Flag
from otelbpf.sources.base import Source
from otelbpf.sources.capture import CaptureSource
from otelbpf.sources.pcap import PacketSource
from otelbpf.sources.replay import open_replay
from tests.sources.packets import CLIENT, Talk, pcap, told

CAPTURED = Path(__file__).parents[3] / "shared" / "data" / "deepflow-http"
"""Packets of real servers and clients, beside the repository (deepflowio/deepflow, Apache-2.0)."""
needs_captured = pytest.mark.skipif(
    not CAPTURED.is_dir(), reason=f"NOT TESTED: the packets that others captured are not at {CAPTURED}"
)


def kind_of(path: Path) -> type[Source]:
    """What a file is opened as."""
    source = open_replay(path)
    source.close()
    return type(source)


def events_of(path: Path) -> list[Event]:
    """The events of a file."""
    source = open_replay(path)
    events = [decode(record) for batch in source.batches() for record in batch]
    source.close()
    return events


def test_a_capture_file(tmp_path: Path) -> None:
    """Recorded by otelbpf."""
    with CaptureWriter(tmp_path / "some") as writer:
        writer.write([encode_clock(time_ns=1, offset_ns=2)])

    assert kind_of(tmp_path / "some") is CaptureSource
    assert events_of(tmp_path / "some") == [Clock(1, 2)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [True, False])
def test_a_packet_file(tmp_path: Path, order: str, nanoseconds: bool) -> None:
    """pcap of any kind; its name does not matter."""
    packets = Talk().open().say(CLIENT, b"ask").packets
    (tmp_path / "some").write_bytes(pcap(packets, order=order, nanoseconds=nanoseconds))

    assert kind_of(tmp_path / "some") is PacketSource
    assert told(events_of(tmp_path / "some")) == ["ESTABLISHED", "0>ask", "still open 3/0"]


def test_pcapng(tmp_path: Path) -> None:
    """Told by its section header."""
    (tmp_path / "some").write_bytes(b"\x0a\x0d\x0d\x0a")

    assert kind_of(tmp_path / "some") is PacketSource


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; record again"),
        (b"\x1f\x8b\x08\0", "is compressed; decompress it first"),
        (b"\x28\xb5\x2f\xfd", "is compressed; decompress it first"),
        (
            b"#!/bin/sh\n",
            "is neither a capture nor a packet file (pcap, pcapng); make one with: otelbpf record FILE",
        ),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    """One line that says what it is and what helps."""
    (tmp_path / "some").write_bytes(content)

    with pytest.raises(CaptureError) as caught:
        open_replay(tmp_path / "some")
    assert str(caught.value) == f"{tmp_path}/some {message}"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or a folder."""
    with pytest.raises(CaptureError, match=r"cannot read .*/none: No such file or directory; check the path"):
        open_replay(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaptureError, match=r"pipe is a pipe; write what comes through it to a file, and replay that"):
        open_replay(tmp_path / "pipe")
    with pytest.raises(CaptureError, match="Is a directory"):
        open_replay(tmp_path)


# -- packets that others captured --------------------------------------------------------------------------------------


def outline(events: list[Event]) -> list[tuple[str, int, int, bytes]]:
    """Per data record: direction, true length, captured, and how it begins."""
    return [
        ("sent" if event.flags & Flag.SENT else "received", event.length, len(event.data), event.data[:12])
        for event in events
        if isinstance(event, Data)
    ]


@needs_captured
def test_a_keep_alive_connection_from_its_handshake() -> None:
    """sw8.pcap: three requests, each answered by a head and the end of an empty chunked body."""
    events = events_of(CAPTURED / "sw8.pcap")

    answer = [("sent", 149, 149, b"HTTP/1.1 200"), ("sent", 5, 5, b"0\r\n\r\n")]
    assert outline(events) == [
        ("received", 1326, 1326, b"POST /create"),
        *answer,
        ("received", 1230, 1230, b"POST /create"),
        *answer,
        ("received", 1325, 1325, b"POST /create"),
        *answer,
    ]
    assert told(events)[0] == "ESTABLISHED"
    assert told(events)[-1] == "still open 3881/462"


@needs_captured
def test_a_request_whose_end_was_not_captured() -> None:
    """client-ip.pcap: the answer acknowledges 308 bytes more than the file holds; they are a gap before it."""
    events = events_of(CAPTURED / "client-ip.pcap")

    assert outline(events) == [
        ("received", 1410, 1410, b"POST /biz-in"),
        ("received", 308, 0, b""),
        ("sent", 737, 737, b"HTTP/1.1 200"),
    ]
    assert told(events)[-1] == "joined still open 1718/737"


@needs_captured
@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("httpv1", [("received", 231, b"POST /query?"), ("sent", 227, b"HTTP/1.1 200")]),
        ("istio-tcp-frag", [("received", 331, b"GET /product"), ("sent", 17, b"HTTP/1.0 200")]),
    ],
)
def test_connections_joined_at_a_request(name: str, pieces: list[tuple[str, int, bytes]]) -> None:
    """The request tells the server."""
    events = events_of(CAPTURED / f"{name}.pcap")

    assert outline(events) == [(side, length, length, begin) for side, length, begin in pieces]
    assert {event.flags & ~Flag.SENT for event in events if isinstance(event, Data)} == {Flag.JOINED | Flag.SERVER}


@needs_captured
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("grpc-segmented", "joined still open 2529/0"),
        ("grpc-server-stream", "joined still open 320/3422"),
        ("grpc-service-name", "CLOSE 353/321"),
        ("grpc-unary", "joined still open 339/1422"),
        ("grpc-unknown", "joined still open 123/227"),
        ("h2c_ascii", "joined still open 287/219"),
        ("http2-multi", "joined still open 199/407"),
        ("httpv2-stream-id", "joined still open 88/0"),
    ],
)
def test_other_protocols_are_delivered_whole(name: str, end: str) -> None:
    """Bytes of protocols that are not understood yet have their place all the same, gaps included."""
    events = events_of(CAPTURED / f"{name}.pcap")
    data = [event for event in events if isinstance(event, Data)]

    received = sum(event.length for event in data if not event.flags & Flag.SENT)
    sent = sum(event.length for event in data if event.flags & Flag.SENT)
    assert told(events)[-1] == end
    assert end.endswith(f" {received}/{sent}")
