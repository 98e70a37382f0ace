"""Whatever lies around TCP is taken off; what is not TCP is told apart."""

from __future__ import annotations

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.sources.packet_file import Frame
from otelbpf.sources.segments import ACK, Segment, read_segment
from tests.sources.packets import ethernet, ip_packet

TCP = bytes(dpkt.tcp.TCP(sport=40000, dport=80, seq=7, ack=9, flags=ACK, data=b"hello"))
IPV4 = ip_packet("10.0.0.2", "10.0.0.1", TCP)
IPV6 = ip_packet("2001:db8::2", "2001:db8::1", TCP)
MAPPED = bytes(10) + b"\xff\xff"
PORTS = (b"\x9c\x40", b"\x00\x50")


def segment(frame: bytes, link_type: int = 101, *, length: int | None = None) -> Segment | str:
    """What a frame holds."""
    return read_segment(Frame(1, link_type, frame, len(frame) if length is None else length))


def found(frame: bytes, link_type: int = 101, *, length: int | None = None) -> tuple[int, bytes]:
    """True length and payload of the segment in a frame."""
    result = segment(frame, link_type, length=length)
    assert isinstance(result, Segment), result
    return result.length, result.data


def extended(*headers: bytes) -> bytes:
    """An IPv6 packet whose extension headers are chained: each begins with the kind of the next."""
    kinds = [header[0] for header in headers]
    chain = b"".join(
        bytes([following]) + header[1:] for header, following in zip(headers, [*kinds[1:], 6], strict=True)
    )
    return ip_packet("2001:db8::2", "2001:db8::1", chain + TCP, protocol=kinds[0])


HOP_BY_HOP = bytes([0, 0, 1, 4, 0, 0, 0, 0])
ROUTING = bytes([43, 0, 0, 0, 0, 0, 0, 0])
DESTINATION = bytes([60, 1, 1, 12]) + bytes(12)
AUTHENTICATION = bytes([51, 4]) + bytes(22)
ATOMIC_FRAGMENT = bytes([44, 0, 0, 0, 0, 0, 0, 5])


def test_every_field() -> None:
    """Addresses and ports of both ends, sequence numbers, flags, payload."""
    assert segment(IPV4) == Segment(
        1, MAPPED + b"\x0a\0\0\2" + PORTS[0], MAPPED + b"\x0a\0\0\1" + PORTS[1], 7, 9, ACK, 5, b"hello"
    )


def test_a_segment_that_acknowledges_nothing() -> None:
    """Without ACK the field means nothing."""
    tcp = bytes(dpkt.tcp.TCP(sport=1, dport=2, seq=7, ack=9, flags=2))
    result = segment(ip_packet("10.0.0.2", "10.0.0.1", tcp))

    assert isinstance(result, Segment)
    assert result.acknowledged == -1


@pytest.mark.parametrize("packet", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("link_type", "before4", "before6"),
    [
        (0, b"\x02\0\0\0", b"\x1e\0\0\0"),
        (0, b"\0\0\0\x02", b"\0\0\0\x18"),
        (1, bytes(12) + b"\x08\0", bytes(12) + b"\x86\xdd"),
        (1, bytes(12) + b"\x81\0\0\5\x08\0", bytes(12) + b"\x81\0\0\5\x86\xdd"),
        (1, bytes(12) + b"\x88\xa8\0\5\x81\0\0\6\x08\0", bytes(12) + b"\x88\xa8\0\5\x81\0\0\6\x86\xdd"),
        (1, bytes(12) + b"\x88\x47\0\0\x11\x40", bytes(12) + b"\x88\x47\0\0\x11\x40"),
        (12, b"", b""),
        (14, b"", b""),
        (101, b"", b""),
        (108, b"\0\0\0\x02", b"\0\0\0\x1c"),
        (113, bytes(14) + b"\x08\0", bytes(14) + b"\x86\xdd"),
        (276, b"\x08\0" + bytes(18), b"\x86\xdd" + bytes(18)),
    ],
    ids=["null-LE", "null-BE", "ethernet", "VLAN", "QinQ", "MPLS", "raw-12", "raw-14", "raw", "loop", "SLL", "SLL2"],
)
def test_link_layers(packet: bytes, link_type: int, before4: bytes, before6: bytes) -> None:
    """Each of them, around IPv4 and IPv6."""
    assert found((before4 if packet is IPV4 else before6) + packet, link_type) == (5, b"hello")


@pytest.mark.parametrize(("packet", "link_type"), [(IPV4, 228), (IPV6, 229)])
def test_raw_ip_of_one_version(packet: bytes, link_type: int) -> None:
    """The link types that say which."""
    assert found(packet, link_type) == (5, b"hello")


def test_padding_is_not_payload() -> None:
    """Short Ethernet frames are filled up; IP's length tells."""
    assert found(ethernet(IPV4).ljust(120, b"\xee"), 1) == (5, b"hello")
    assert found(ethernet(IPV6).ljust(120, b"\xee"), 1) == (5, b"hello")


def test_ip_and_tcp_options() -> None:
    """Both headers may be longer than twenty bytes."""
    tcp = bytearray(TCP[:20] + bytes([1] * 12) + b"hello")
    tcp[12] = 8 << 4
    packet = bytearray(ip_packet("10.0.0.2", "10.0.0.1", bytes([1] * 8) + bytes(tcp)))
    packet[0] = 0x47

    assert found(bytes(packet)) == (5, b"hello")


@pytest.mark.parametrize(
    "headers",
    [
        [HOP_BY_HOP],
        [ROUTING],
        [DESTINATION],
        [AUTHENTICATION],
        [HOP_BY_HOP, ATOMIC_FRAGMENT],
        [HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION],
    ],
    ids=lambda headers: "-".join(str(header[0]) for header in headers),
)
def test_ipv6_extension_headers(headers: list[bytes]) -> None:
    """They count to IP's payload, not to TCP's; an atomic fragment is a whole packet (RFC 6946)."""
    assert found(extended(*headers)) == (5, b"hello")


def test_a_frame_cut_by_the_snapshot_length() -> None:
    """The length is IP's, the payload what is there."""
    assert found(IPV4[:-3]) == (5, b"he")
    assert found(IPV6[:-5]) == (5, b"")
    assert found(extended(HOP_BY_HOP)[:-2]) == (5, b"hel")


@pytest.mark.parametrize("packet", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_segmentation_offload(packet: bytes) -> None:
    """The length field is zero where the network card was to fill it in; the frame's length tells, cut or not."""
    zero = bytearray(packet)
    if packet is IPV4:
        zero[2:4] = b"\0\0"
    else:
        zero[4:6] = b"\0\0"

    assert found(bytes(zero)) == (5, b"hello")
    assert found(bytes(zero[:-2]), length=len(zero)) == (5, b"hel")
    assert found(ethernet(bytes(zero)), 1) == (5, b"hello")


@pytest.mark.parametrize(
    ("frame", "link_type", "what"),
    [
        (b"x", 105, "of link type 105"),
        (bytes(12) + b"\x08\x06" + bytes(28), 1, "not IP"),
        (ethernet(IPV4)[:13], 1, "damaged"),
        (b"", 101, "damaged"),
        (b"", 1, "damaged"),
        (ip_packet("10.0.0.2", "10.0.0.1", TCP, protocol=17), 101, "not TCP"),
        (ip_packet("2001:db8::2", "2001:db8::1", TCP, protocol=17), 101, "not TCP"),
        (ip_packet("10.0.0.2", "10.0.0.1", IPV4, protocol=4), 101, "not TCP"),
        (IPV4[:6] + b"\x20\x00" + IPV4[8:], 101, "IP fragment"),
        (IPV4[:6] + b"\x00\x10" + IPV4[8:], 101, "IP fragment"),
        (extended(bytes([44, 0, 0, 1, 0, 0, 0, 5])), 101, "IP fragment"),
        (extended(bytes([44, 0, 1, 0, 0, 0, 0, 5])), 101, "IP fragment"),
        (extended(HOP_BY_HOP, bytes([44, 0, 1, 0, 0, 0, 0, 5])), 101, "IP fragment"),
        (IPV4[:39], 101, "without a whole TCP header"),
        (IPV6[:59], 101, "without a whole TCP header"),
        (IPV4[:2] + struct.pack(">H", 20 + 19) + IPV4[4:], 101, "without a whole TCP header"),
        (IPV4[: 20 + 12] + b"\x10" + IPV4[20 + 13 :], 101, "without a whole TCP header"),
        (IPV4[: 20 + 12] + b"\xf0" + IPV4[20 + 13 :], 101, "damaged"),
        (IPV4[:1] + IPV4[1:2] + b"\0\x05" + IPV4[4:], 101, "without a whole TCP header"),
    ],
)
def test_what_is_no_segment(frame: bytes, link_type: int, what: str) -> None:
    """A word for the user, and for the counter."""
    assert segment(frame, link_type) == what


@given(
    st.sampled_from([(1, ethernet(IPV4)), (1, ethernet(IPV6)), (101, extended(HOP_BY_HOP, DESTINATION)), (101, IPV4)]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5),
    st.integers(0, 200),
)
def test_garbage(kind: tuple[int, bytes], edits: list[tuple[int, int]], keep: int) -> None:
    """Mutated and cut frames are a segment within its bounds, or a word."""
    frame = bytearray(kind[1])
    for position, value in edits:
        frame[position % len(frame)] = value

    result = segment(bytes(frame[:keep]), kind[0])

    if isinstance(result, Segment):
        assert len(result.data) <= result.length
        assert (len(result.source), len(result.target)) == (18, 18)
    else:
        assert result in ("damaged", "not IP", "not TCP", "IP fragment", "without a whole TCP header")
