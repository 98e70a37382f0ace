"""pcap and pcapng: exact times, true lengths, and everything before the damage."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.errors import CaptureError
from otelbpf.sources.packet_file import MAX_FRAME_BYTES, Frame, PacketFile
from tests.sources.packets import Packet, pcap

packets = st.lists(
    st.builds(Packet, st.integers(0, (1 << 32) * 1_000_000_000 - 1), st.binary(min_size=0, max_size=40)), max_size=6
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, written over and over."""
    return tmp_path_factory.mktemp("packets") / "some.pcap"


def read(path: Path, content: bytes) -> tuple[list[Frame], CaptureError | None]:
    """The frames of a file, and what it ends with."""
    path.write_bytes(content)
    file = PacketFile(path)
    frames: list[Frame] = []
    try:
        frames.extend(file.frames())
    except CaptureError as error:
        return frames, error
    finally:
        file.close()
    return frames, None


def block(kind: int, body: bytes, *, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(*, order: str = "<", major: int = 1) -> bytes:
    """A section header block of unknown length."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1), order=order)


def interface(link_type: int = 1, *, order: str = "<", snapshot_bytes: int = 0, options: bytes = b"") -> bytes:
    """An interface description block."""
    return block(1, struct.pack(order + "HHI", link_type, 0, snapshot_bytes) + options, order=order)


def option(code: int, value: bytes, *, order: str = "<") -> bytes:
    """An option, padded."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def packet(ticks: int, data: bytes, *, number: int = 0, length: int | None = None, order: str = "<") -> bytes:
    """An enhanced packet block."""
    size = len(data) if length is None else length
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), size)
    return block(6, head + data + bytes(-len(data) % 4), order=order)


# -- pcap --------------------------------------------------------------------------------------------------------------


@given(packets, st.sampled_from("<>"), st.booleans())
def test_pcap_of_any_kind(path: Path, written: list[Packet], order: str, nanoseconds: bool) -> None:
    """Either byte order, micro- or nanoseconds: times to the last digit, frames as they were."""
    frames, error = read(path, pcap(written, order=order, nanoseconds=nanoseconds, link_type=113))

    step = 1 if nanoseconds else 1000
    assert error is None
    assert frames == [Frame(p.time_ns // step * step, 113, p.data, len(p.data)) for p in written]


@given(packets.filter(bool), st.data())
def test_a_cut_pcap(path: Path, written: list[Packet], data: st.DataObject) -> None:
    """Cut anywhere within: the frames that are whole, then the offset of the one that is not."""
    whole = pcap(written)
    ends = [24]
    for each in written:
        ends.append(ends[-1] + 16 + len(each.data))
    cut = data.draw(st.integers(25, len(whole) - 1).filter(lambda cut: cut not in ends))
    frames, error = read(path, whole[:cut])

    expected = sum(end <= cut for end in ends) - 1
    assert [frame.data for frame in frames] == [each.data for each in written[:expected]]
    assert error is not None
    assert error.offset == ends[expected]


def test_a_frame_cut_by_the_snapshot_length(path: Path) -> None:
    """The true length is kept; a writer that forgot it is not believed below what is there."""
    content = bytearray(pcap([Packet(0, bytes(100))], snapshot_bytes=40))
    assert read(path, bytes(content))[0] == [Frame(0, 101, bytes(40), 100)]

    content[24 + 12 : 24 + 16] = bytes(4)
    assert read(path, bytes(content))[0] == [Frame(0, 101, bytes(40), 40)]


def test_the_link_type_stands_beside_other_bits(path: Path) -> None:
    """The upper bits tell of frame check sequences."""
    content = bytearray(pcap([Packet(0, b"x")], link_type=1))
    content[23] = 0x24

    assert read(path, bytes(content))[0] == [Frame(0, 1, b"x", 1)]


def test_a_frame_that_cannot_be(path: Path) -> None:
    """Four gigabytes announced are damage at once."""
    content = bytearray(pcap([Packet(0, b"one"), Packet(0, b"two")]))
    content[24 + 16 + 3 + 8 : 24 + 16 + 3 + 12] = struct.pack("<I", MAX_FRAME_BYTES + 1)
    frames, error = read(path, bytes(content))

    assert [frame.data for frame in frames] == [b"one"]
    assert str(error) == f"{path} is damaged at byte 43; everything before it was read; capture again"


# -- pcapng ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(path: Path, order: str) -> None:
    """Microseconds unless the interface says otherwise; blocks of other kinds are passed over."""
    content = (
        section(order=order)
        + interface(113, order=order)
        + block(5, b"statistics", order=order)
        + packet(1_700_000_000_123_456, b"frame", order=order, length=9)
        + block(0x0BAD, b"", order=order)
    )

    assert read(path, content) == ([Frame(1_700_000_000_123_456_000, 113, b"frame", 9)], None)


@pytest.mark.parametrize(
    ("options", "ticks", "time_ns"),
    [
        (option(9, b"\x09"), 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (option(2, b"eth0") + option(9, b"\x03") + option(0, b""), 1_700_000_000_123, 1_700_000_000_123_000_000),
        (option(9, b"\x8a"), 1024 * 5 + 512, 5_500_000_000),
        (option(14, struct.pack("<q", 100)), 5_000_000, 105_000_000_000),
        (option(14, struct.pack("<q", -100)), 5_000_000, 0),
        (option(9, b"\x00"), (1 << 64) - 1, (1 << 63) - 1),
        (option(0, b"") + option(9, b"\x09"), 7, 7000),
        (option(9, b"\x7f"), 10**18, 0),
        (b"\x09\x00\xff\xff", 7, 7000),
    ],
    ids=[
        "nanoseconds",
        "milliseconds",
        "powers of two",
        "offset",
        "before 1970",
        "far",
        "behind the end",
        "tiny",
        "cut",
    ],
)
def test_pcapng_times(path: Path, options: bytes, ticks: int, time_ns: int) -> None:
    """if_tsresol and if_tsoffset."""
    (frame,), error = read(path, section() + interface(options=options) + packet(ticks, b"x"))

    assert (frame.time_ns, error) == (time_ns, None)


def test_pcapng_interfaces_and_sections(path: Path) -> None:
    """Each packet is of its own interface's link type; a section begins anew, in its own byte order."""
    content = (
        section()
        + interface(1)
        + interface(101, options=option(9, b"\x09"))
        + packet(1, b"a", number=1)
        + packet(1, b"b", number=0)
        + section(order=">")
        + interface(276, order=">")
        + packet(2, b"c", order=">")
    )
    frames, error = read(path, content)

    assert error is None
    assert [(frame.time_ns, frame.link_type, frame.data) for frame in frames] == [
        (1, 101, b"a"),
        (1000, 1, b"b"),
        (2000, 276, b"c"),
    ]


def test_pcapng_packets_of_other_kinds(path: Path) -> None:
    """Simple ones have no time and are as old as the one before; the obsolete kind counts its drops."""
    obsolete = struct.pack("<HHIIII", 0, 65535, 0, 7, 3, 5) + b"old"
    content = (
        section()
        + interface(1, snapshot_bytes=4)
        + block(2, obsolete)
        + block(3, struct.pack("<I", 6) + b"simp")
        + block(3, struct.pack("<I", 2) + b"ab")
    )

    assert read(path, content) == (
        [Frame(7000, 1, b"old", 5), Frame(7000, 1, b"simp", 6), Frame(7000, 1, b"ab", 2)],
        None,
    )


@pytest.mark.parametrize(
    "damaged",
    [
        packet(1, b"x", number=1),
        block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + b"few"),
        block(6, b"short"),
        block(1, b"\0\0"),
        packet(1, b"x")[:-4] + b"\x0f\0\0\0",
        struct.pack("<II", 6, 13) + bytes(20),
        struct.pack("<II", 6, 8),
        struct.pack("<II", 6, 0xFFFFFFFC),
        b"\x0a\x0d\x0d\x0a" + struct.pack("<I", 28) + bytes(20),
        section(major=2),
        packet(1, b"x")[:-1],
        b"\0\0",
    ],
    ids=[
        "unknown interface",
        "captured beyond the block",
        "no room for a packet",
        "no room for an interface",
        "sizes differ",
        "size not aligned",
        "size too small",
        "size too large",
        "no byte order",
        "future version",
        "cut",
        "cut within the kind",
    ],
)
def test_damaged_pcapng(path: Path, damaged: bytes) -> None:
    """What came before is delivered, then the offset of the block."""
    good = section() + interface() + packet(1, b"good")
    frames, error = read(path, good + damaged)

    assert [frame.data for frame in frames] == [b"good"]
    assert error is not None
    assert error.offset == len(good)


@given(st.data())
def test_garbage(path: Path, data: st.DataObject) -> None:
    """Mutated files end in CaptureError or in nothing."""
    content = bytearray(
        data.draw(
            st.sampled_from(
                [
                    section() + interface(options=option(9, b"\x09")) + packet(1, b"good") + packet(2, b"more"),
                    pcap([Packet(1, b"good"), Packet(2, b"more")]),
                ]
            )
        )
    )
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)):
        content[position % len(content)] = value

    frames, _ = read(path, bytes(content))

    assert len(frames) <= 4


# -- neither -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty at byte 0"),
        (b"GET / HTTP/1.1", "is not a packet file at byte 0"),
        (b"\xd4\xc3", "ends too early at byte 0"),
        (b"\xd4\xc3\xb2\xa1\2\0\4\0", "ends too early at byte 0"),
        (b"\xd4\xc3\xb2\xa1\3\0\1\0" + bytes(16), "is of pcap version 3.1, which is not known, at byte 0"),
        (b"\xa1\xb2\xc3\xd4\0\3\0\1" + bytes(16), "is of pcap version 3.1, which is not known, at byte 0"),
    ],
)
def test_a_file_that_is_none(path: Path, content: bytes, message: str) -> None:
    """One line."""
    assert str(read(path, content)[1]) == f"{path} {message}; everything before it was read; capture again"


def test_a_missing_file(tmp_path: Path) -> None:
    """The system's error, as one line."""
    with pytest.raises(CaptureError) as caught:
        PacketFile(tmp_path / "none.pcap")
    assert str(caught.value) == f"cannot read {tmp_path}/none.pcap: No such file or directory; check the path"
