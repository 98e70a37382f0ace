"""Answers of name servers: which name leads to which addresses (RFC 1035)."""

from __future__ import annotations

import struct
from typing import Final

import dpkt

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"


def read_answer(message: bytes) -> tuple[str, tuple[bytes, ...]] | None:
    """The name that was asked for, in lower case, and the addresses it has, of 16 bytes each (IPv4 ones IPv4-mapped);
    None for anything but an answer that gives some."""
    try:
        read = dpkt.dns.DNS(message)
    except (dpkt.UnpackError, IndexError, ValueError, struct.error):
        return None
    if read.qr != dpkt.dns.DNS_R or read.rcode != dpkt.dns.DNS_RCODE_NOERR or len(read.qd) != 1:
        return None
    name = read.qd[0].name.lower()
    if not name or not name.isascii() or not name.isprintable():
        return None
    addresses = []
    for answer in read.an:
        if answer.type == dpkt.dns.DNS_A and len(answer.rdata) == 4:
            addresses.append(_IPV4_MAPPED + answer.rdata)
        elif answer.type == dpkt.dns.DNS_AAAA and len(answer.rdata) == 16:
            addresses.append(answer.rdata)
    return (name, tuple(addresses)) if addresses else None
