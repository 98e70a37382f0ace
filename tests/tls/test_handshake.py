"""What the two hellos say, made by a real library."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.tls.handshake import Handshake, Negotiated, application_lengths
from tests.fake_tls import shake_hands

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def read(flights: list[tuple[bool, bytes]], step: int = 1 << 20) -> Handshake:
    handshake = Handshake()
    for by_client, data in flights:
        for at in range(0, len(data), step):
            handshake.take(by_client, data[at : at + step])
    return handshake


@pytest.mark.parametrize(
    ("version", "ciphers", "expected"),
    [
        (V13, "DEFAULT", Negotiated("tls", "1.3", "TLS_AES_256_GCM_SHA384", "site.example", "http/1.1")),
        (
            V12,
            "ECDHE+AESGCM",
            Negotiated("tls", "1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "site.example", "http/1.1"),
        ),
        (
            V12,
            "ECDHE+CHACHA20",
            Negotiated("tls", "1.2", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "site.example", "http/1.1"),
        ),
    ],
)
@pytest.mark.parametrize("step", [1 << 20, 5, 1])
def test_version_cipher_names(version: ssl.TLSVersion, ciphers: str, expected: Negotiated, step: int) -> None:
    """However the bytes are cut."""
    _, _, flights = shake_hands(version, ciphers=ciphers, protocols=("http/1.1",))
    handshake = read(flights, step)

    cipher = handshake.negotiated.cipher.replace("ECDSA", "RSA")  # as the certificate's key has it
    assert (handshake.negotiated, cipher) == (
        Negotiated(
            expected.name,
            expected.version,
            handshake.negotiated.cipher,
            expected.server_name,
            expected.protocol,
            resumed=False,
        ),
        expected.cipher,
    )
    assert handshake.over


def test_an_encrypted_choice_of_several_protocols_is_not_known() -> None:
    """TLS 1.3 says it only to the client."""
    _, _, flights = shake_hands(V13, protocols=("h2", "http/1.1"))

    assert read(flights).negotiated.protocol == ""


def test_a_choice_of_several_protocols_is_told_by_the_server() -> None:
    """TLS 1.2 says it in the clear."""
    _, _, flights = shake_hands(V12, protocols=("h2", "http/1.1"))

    assert read(flights).negotiated.protocol == "h2"


@pytest.fixture(scope="module")
def flights() -> list[tuple[bool, bytes]]:
    return shake_hands(V12)[2]


@given(data=st.data())
def test_no_bytes_raise(data: st.DataObject, flights: list[tuple[bool, bytes]]) -> None:
    """A handshake with some bytes changed or missing gives something or nothing."""
    handshake = Handshake()
    for by_client, flight in flights:
        hurt = bytearray(flight)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(hurt) - 1))
            hurt[at] = data.draw(st.integers(0, 255))
        handshake.take(by_client, bytes(hurt[: data.draw(st.integers(1, len(hurt)))]))

    assert isinstance(handshake.negotiated, Negotiated)


def test_bytes_that_never_become_a_message_are_given_up() -> None:
    """A record that promises more than anybody keeps."""
    handshake = Handshake()
    for _ in range(5):
        handshake.take(True, b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(4091))

    handshake.take(False, b"no TLS at all")
    assert handshake.over
    assert handshake.negotiated == Negotiated()


def test_lengths_of_encrypted_records() -> None:
    """Of records that begin there, cut ones too; nothing behind what is no record."""
    client, server, flights = shake_hands(V13)
    sent = client.encrypt(b"x" * 100) + client.encrypt(b"y" * 5)

    assert application_lengths(sent) == [117, 22]
    assert application_lengths(sent[:-5]) == [117, 22]
    assert application_lengths(sent[:60]) == [117]
    assert application_lengths(b"GET / HTTP/1.1\r\n") == []
    assert application_lengths(flights[0][1]) == []
    server.receive(sent)
    assert (server.decrypt(), server.decrypt()) == (b"x" * 100, b"y" * 5)
