"""Which socket carries plain text, by lengths alone: what is believed, and what never is."""

from __future__ import annotations

import pytest

from otelbpf.connections.connection import Connection
from otelbpf.telemetry.ledger import ByteAccount
from otelbpf.tls.carriers import Carriers, overheads

T13, ANY = (17,), (17, 24, 16)


def connection(number: int) -> Connection:
    return Connection(number.to_bytes(16, "big"), bytes(40), 0, 0, ByteAccount())


A, B, SOCKET, OTHER = (connection(number) for number in range(4))


def test_a_sent_record_of_a_known_cipher_is_enough() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)

    assert carriers.sent(1, SOCKET, [117], T13) is A


def test_of_an_unknown_cipher_it_takes_two() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)
    assert carriers.sent(1, SOCKET, [124], ANY) is None
    carriers.wrote(1, A, 30)

    assert carriers.sent(1, SOCKET, [54], ANY) is A


def test_received_records_take_two() -> None:
    carriers = Carriers()
    carriers.received(1, SOCKET, [117, 40], T13)
    assert carriers.read(1, A, 100) is None

    assert carriers.read(1, A, 23) is SOCKET


def test_two_that_wrote_as_much_prove_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)
    carriers.wrote(1, B, 100)

    assert carriers.sent(1, SOCKET, [117], T13) is None


def test_another_thread_proves_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)

    assert carriers.sent(2, SOCKET, [117], T13) is None


def test_a_contradiction_takes_everything_back() -> None:
    carriers = Carriers()
    carriers.received(1, SOCKET, [117], T13)
    assert carriers.read(1, A, 100) is None
    carriers.received(1, OTHER, [50], T13)
    assert carriers.read(1, A, 33) is None
    carriers.received(1, SOCKET, [60], T13)
    assert carriers.read(1, A, 43) is None
    carriers.received(1, SOCKET, [61], T13)

    assert carriers.read(1, A, 44) is SOCKET


def test_full_records_say_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 16_384)
    assert carriers.sent(1, SOCKET, [16_401], T13) is None
    carriers.wrote(1, A, 100)

    assert carriers.sent(1, SOCKET, [16_401, 117], T13) is A


def test_tickets_may_stand_before_the_answer() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)

    assert carriers.sent(1, SOCKET, [234, 234, 117], T13) is A


def test_what_is_forgotten_is_no_candidate() -> None:
    carriers = Carriers()
    carriers.wrote(1, A, 100)
    carriers.wrote(1, B, 100)
    carriers.forget(B)

    assert carriers.sent(1, SOCKET, [117], T13) is A


@pytest.mark.parametrize(
    ("version", "cipher", "added"),
    [
        ("1.3", "TLS_AES_128_GCM_SHA256", (17,)),
        ("1.3", "TLS_AES_128_CCM_8_SHA256", ()),
        ("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", (24,)),
        ("1.2", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", (16,)),
        ("1.2", "TLS_RSA_WITH_AES_128_CBC_SHA", ()),
        ("", "", ANY),
    ],
)
def test_what_a_cipher_adds(version: str, cipher: str, added: tuple[int, ...]) -> None:
    assert overheads(version, cipher) == added
