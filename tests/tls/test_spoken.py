"""Whether an application spoke: real TLS, of which only the records' lengths are seen."""

from __future__ import annotations

import ssl

import pytest

from otelbpf.tls.handshake import application_lengths
from otelbpf.tls.spoken import Spoken
from tests.fake_tls import End, shake_hands

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {V12: "1.2", V13: "1.3"}
CIPHERS = {V12: ("ECDHE+AES256", "ECDHE+CHACHA20"), V13: ("DEFAULT",)}
CASES = [(version, ciphers) for version in VERSIONS for ciphers in CIPHERS[version]]


def after(version: ssl.TLSVersion, ciphers: str) -> tuple[End, End, Spoken]:
    """Both ends, and what their handshake shows."""
    client, server, flights = shake_hands(version, ciphers=ciphers)
    spoken = Spoken()
    for by_client, data in flights:
        spoken.take(VERSIONS[version], by_client, application_lengths(data))
    return client, server, spoken


@pytest.mark.parametrize(("version", "ciphers"), CASES)
def test_a_handshake_and_an_end_are_nothing(version: ssl.TLSVersion, ciphers: str) -> None:
    """Tickets and alerts among them."""
    client, server, spoken = after(version, ciphers)
    spoken.take(VERSIONS[version], True, application_lengths(client.end()))
    spoken.take(VERSIONS[version], False, application_lengths(server.end()))

    assert not spoken.yes


@pytest.mark.parametrize("length", [1, 3, 35, 36, 37, 52, 1000])
@pytest.mark.parametrize(("version", "ciphers"), CASES)
def test_what_a_client_says_is_data(version: ssl.TLSVersion, ciphers: str, length: int) -> None:
    """As long as a Finished, too, for there was one before."""
    client, _, spoken = after(version, ciphers)
    spoken.take(VERSIONS[version], True, application_lengths(client.encrypt(bytes(length))))

    assert spoken.yes


def test_of_an_open_connection_everything_but_an_end_is_data() -> None:
    """It was open before: its version is not known, its handshake is over."""
    spoken = Spoken()
    spoken.take("", True, [19])
    assert not spoken.yes
    spoken.take("", False, [53])

    assert spoken.yes


@pytest.mark.parametrize(("version", "ciphers"), CASES)
def test_where_the_kernel_encrypts_everything_but_an_end_is_data(version: ssl.TLSVersion, ciphers: str) -> None:
    """Of its records not even the type is seen; TLS 1.2 sends its Finished among them."""
    client, server, spoken = after(version, ciphers)
    last = 16 + 16 + (0 if "CHACHA20" in ciphers else 8) + 5
    spoken.take_unseen(True, last if version is V12 else len(client.end()))
    spoken.take_unseen(False, len(server.encrypt(bytes(300))))
    spoken.take_unseen(True, len(client.end()) if version is V12 else 5 + 5 + 17)
    if version is V12:  # both told as one, when the socket ends
        spoken.take_unseen(True, last + len(client.end()))
    assert not spoken.yes

    spoken.take_unseen(True, 5 + 3 + 17)
    assert spoken.yes
