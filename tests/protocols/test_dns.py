"""Answers of name servers."""

from __future__ import annotations

import socket

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.protocols.dns import read_answer


def answer(name: str, *records: tuple[int, bytes], flags: int = 0x8180, alias: str = "") -> bytes:
    """A message that gives `records` of (type, data), behind an alias where there is one."""
    message = dpkt.dns.DNS(id=7, op=flags)
    message.qd = [dpkt.dns.DNS.Q(name=name, type=dpkt.dns.DNS_A)]
    message.an = []
    if alias:
        message.an.append(dpkt.dns.DNS.RR(name=name, type=dpkt.dns.DNS_CNAME, cname=alias, ttl=60))
    for kind, data in records:
        given_to = alias or name
        record = dpkt.dns.DNS.RR(name=given_to, type=kind, rdata=data, ttl=60)
        record.ip = record.ip6 = data
        message.an.append(record)
    return bytes(message)


def v4(text: str) -> tuple[int, bytes]:
    return dpkt.dns.DNS_A, socket.inet_aton(text)


def v6(text: str) -> tuple[int, bytes]:
    return dpkt.dns.DNS_AAAA, socket.inet_pton(socket.AF_INET6, text)


def test_addresses_of_the_name_that_was_asked_for() -> None:
    message = answer("Shop.Example", v4("10.0.0.7"), v6("2001:db8::7"), alias="edge.cdn.example")
    mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 7])
    assert read_answer(message) == ("shop.example", (mapped, socket.inet_pton(socket.AF_INET6, "2001:db8::7")))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        bytes(12),
        answer("shop.example", v4("10.0.0.7"), flags=0x0100),  # a question
        answer("shop.example", v4("10.0.0.7"), flags=0x8183),  # NXDOMAIN
        answer("shop.example"),
        answer("shop.example", alias="edge.cdn.example"),
        answer("shop.example", v4("10.0.0.7"))[:-2],
        answer("", v4("10.0.0.7")),
        answer("shop\x07.example", v4("10.0.0.7")),
    ],
)
def test_everything_else_is_none(message: bytes) -> None:
    assert read_answer(message) is None


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 255))
def test_garbage_is_none_and_nothing_worse(garbage: bytes, place: int, value: int) -> None:
    read_answer(garbage)
    message = bytearray(answer("shop.example", v4("10.0.0.7"), alias="edge.cdn.example"))
    message[place % len(message)] = value
    read_answer(bytes(message))
