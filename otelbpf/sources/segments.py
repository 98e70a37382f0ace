"""Frames to TCP segments: whatever lies around TCP is taken off, and what is not TCP is told apart by a word.

dpkt reads the layers: Ethernet (VLAN, MPLS, PPPoE), Linux cooked capture 1 and 2, the loopback headers of BSD, raw
IP; IPv4 with options and IPv6 with extension headers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import dpkt
import msgspec

from otelbpf.sources.packet_file import Frame

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"
_port: Final = struct.Struct(">H").pack


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One TCP segment."""

    time_ns: int
    source: bytes
    """16 bytes of address, two of port; IPv4 mapped to IPv6."""
    target: bytes
    sequence: int
    acknowledged: int
    """-1 where the segment acknowledges nothing."""
    flags: int
    length: int
    """Bytes of payload on the wire."""
    data: bytes
    """Shorter than `length` where the capture cut the frame."""


def _raw_ip(data: bytes) -> Any:
    """IP without a link layer: the version is all that tells."""
    return (dpkt.ip6.IP6 if data[:1] >= b"\x60" else dpkt.ip.IP)(data)


# https://www.tcpdump.org/linktypes.html
_LINKS: Final[dict[int, Callable[[bytes], Any]]] = {
    0: dpkt.loopback.Loopback,
    1: dpkt.ethernet.Ethernet,
    12: _raw_ip,  # LINKTYPE_RAW is 101; files hold the value of DLT_RAW too: 12, and 14 on OpenBSD
    14: _raw_ip,
    101: _raw_ip,
    108: dpkt.loopback.Loopback,
    113: dpkt.sll.SLL,
    228: _raw_ip,
    229: _raw_ip,
    276: dpkt.sll2.SLL2,
}

# What dpkt raises on hostile frames beside its own errors, found by fuzzing.
_UNREADABLE: Final = (dpkt.Error, struct.error, IndexError, AttributeError, ValueError, TypeError, RecursionError)


def read_segment(frame: Frame) -> Segment | str:
    """The segment of a frame, or why there is none: what it is instead, for the user to read and to be counted."""
    link = _LINKS.get(frame.link_type)
    if link is None:
        return f"of link type {frame.link_type}"
    try:
        layer = link(frame.data)
        while not isinstance(layer, dpkt.ip.IP | dpkt.ip6.IP6):
            if not isinstance(layer, dpkt.Packet):
                return "not IP"
            layer = layer.data
        return _ipv4(frame, layer) if isinstance(layer, dpkt.ip.IP) else _ipv6(frame, layer)
    except _UNREADABLE:
        return "damaged"


def _ipv4(frame: Frame, ip: Any) -> Segment | str:
    if ip.p != dpkt.ip.IP_PROTO_TCP:
        return "not TCP"
    if ip.mf or ip.offset:
        return "IP fragment"
    if not isinstance(ip.data, dpkt.tcp.TCP):
        return "without a whole TCP header"
    # Segmentation offload on the capturing host leaves the length zero: then all that follows is payload.
    size = ip.len - ip.hl * 4 if ip.len else frame.length - (len(frame.data) - len(ip.data))
    return _segment(frame, _IPV4_MAPPED + ip.src, _IPV4_MAPPED + ip.dst, ip.data, size)


def _ipv6(frame: Frame, ip: Any) -> Segment | str:
    extensions = 0
    for header in ip.all_extension_headers:
        # A fragment header on a whole packet is an atomic fragment (RFC 6946).
        if isinstance(header, dpkt.ip6.IP6FragmentHeader) and (header.frag_off or header.m_flag):
            return "IP fragment"
        extensions += header.length
    if ip.p != dpkt.ip.IP_PROTO_TCP:
        return "not TCP"
    if not isinstance(ip.data, dpkt.tcp.TCP):
        return "without a whole TCP header"
    size = ip.plen - extensions if ip.plen else frame.length - (len(frame.data) - len(ip.data))
    return _segment(frame, ip.src, ip.dst, ip.data, size)


def _segment(frame: Frame, source: bytes, target: bytes, tcp: Any, size: int) -> Segment | str:
    length = size - tcp.off * 4
    if length < 0:
        return "damaged"
    return Segment(
        frame.time_ns,
        source + _port(tcp.sport),
        target + _port(tcp.dport),
        tcp.seq,
        tcp.ack if tcp.flags & ACK else -1,
        tcp.flags,
        length,
        tcp.data[:length],
    )
