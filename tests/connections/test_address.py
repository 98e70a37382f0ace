"""Addresses as text."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.connections.address import Endpoints, address_text, parse_endpoints
from otelbpf.events.encode import encode_endpoints


def test_ipv4_is_shown_as_ipv4() -> None:
    """The mapping is the record's affair, not the reader's."""
    raw = encode_endpoints("192.0.2.1", 8080, "198.51.100.7", 40000, network_namespace=4026531840)

    assert parse_endpoints(raw) == Endpoints("192.0.2.1", 8080, "198.51.100.7", 40000, "ipv4", 4026531840)


def test_ipv6() -> None:
    """An IPv6 connection is ipv6 on both ends."""
    raw = encode_endpoints("2001:db8::1", 443, "fe80::1", 1)

    assert parse_endpoints(raw) == Endpoints("2001:db8::1", 443, "fe80::1", 1, "ipv6", 0)


def test_an_unbound_socket_is_of_its_peers_family() -> None:
    """Before the kernel has chosen a source address it reads as ::."""
    assert parse_endpoints(encode_endpoints("::", 0, "192.0.2.1", 80)).network_type == "ipv4"
    assert parse_endpoints(encode_endpoints("::", 0, "2001:db8::1", 80)).network_type == "ipv6"


@pytest.mark.parametrize(
    ("address", "text"),
    [  # RFC 5952 sections 4.1 to 4.3
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:DB8::ABCD", "2001:db8::abcd"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::1", "::1"),
        ("::1:2", "::1:2"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_canonical_text(address: str, text: str) -> None:
    """One text for one address."""
    assert address_text(ipaddress.IPv6Address(address).packed) == text


@given(st.binary(min_size=16, max_size=16))
def test_text_names_the_address_it_was_made_of(raw: bytes) -> None:
    """Any 16 bytes have a text, and only one address has it."""
    packed = ipaddress.ip_address(address_text(raw)).packed

    assert packed.rjust(16, b"\0") == (raw if len(packed) == 16 else bytes(12) + raw[12:])
