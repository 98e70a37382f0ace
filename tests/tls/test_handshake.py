"""What the two hellos say, made by a real library."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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
        replace(expected, cipher=handshake.negotiated.cipher, resumed=False),
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


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("step", [1 << 20, 5, 1])
def test_a_session_that_goes_on_from_another(version: ssl.TLSVersion, step: int) -> None:
    """By a ticket; the first one did not."""
    client, server, flights = shake_hands(version)
    server.receive(client.encrypt(b"x"))
    client.receive(server.encrypt(b"y"))
    assert client.decrypt() == b"y"  # which in TLS 1.3 comes behind the tickets
    again, _, later = shake_hands(version, session=client.object.session)

    assert (client.object.session_reused, read(flights, step).negotiated.resumed) == (False, False)
    assert (again.object.session_reused, read(later, step).negotiated.resumed) == (True, True)
    assert read(later, step).over


def test_a_session_kept_by_the_server() -> None:
    """TLS 1.2 without tickets: what follows the server's hello is no message, but another record."""
    hello = shake_hands(V12)[2][1][1]
    hello = hello[: 5 + int.from_bytes(hello[3:5], "big")]
    handshake = Handshake()
    handshake.take(False, hello)
    assert (handshake.over, handshake.negotiated.version, handshake.negotiated.resumed) == (False, "1.2", None)

    handshake.take(False, b"\x14\x03\x03\x00\x01\x01")
    assert handshake.negotiated.resumed is True


def test_an_alert_behind_the_hello_says_nothing_of_a_session() -> None:
    hello = shake_hands(V12)[2][1][1]
    handshake = Handshake()
    handshake.take(False, hello[: 5 + int.from_bytes(hello[3:5], "big")] + b"\x15\x03\x03\x00\x02\x02\x28")

    assert handshake.negotiated.resumed is None


def test_a_server_that_asks_for_another_hello() -> None:
    """What it takes in the end is in a hello that is not read."""
    _, _, flights = shake_hands(V13, curve="secp384r1")
    handshake = read(flights)

    assert [by_client for by_client, _ in flights] == [True, False] * 3
    assert (handshake.negotiated.version, handshake.negotiated.resumed) == ("1.3", None)


@pytest.mark.parametrize(("age", "resumed"), [(0, None), (7, True)])
def test_a_key_without_an_age_may_come_from_elsewhere(age: int, resumed: bool | None) -> None:
    """The second one that was offered was taken."""
    keys = b"\0\3one\0\0\0\5" + b"\0\3two" + age.to_bytes(4, "big")
    offered = len(keys).to_bytes(2, "big") + keys + b"\0\2\1\0"

    def hello(kind: int, body: bytes, *extensions: tuple[int, bytes]) -> bytes:
        packed = b"".join(struct.pack(">HH", number, len(data)) + data for number, data in extensions)
        body = b"\3\3" + bytes(32) + b"\0" + body + len(packed).to_bytes(2, "big") + packed
        message = bytes([kind]) + len(body).to_bytes(3, "big") + body
        return b"\x16\3\3" + len(message).to_bytes(2, "big") + message

    handshake = Handshake()
    handshake.take(True, hello(1, b"\0\2\x13\1\1\0", (43, b"\2\3\4"), (41, offered)))
    handshake.take(False, hello(2, b"\x13\1\0", (43, b"\3\4"), (41, b"\0\1")))

    assert handshake.over
    assert (handshake.negotiated.version, handshake.negotiated.resumed) == ("1.3", resumed)


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
