"""Which socket carries plain text, by lengths alone: what is believed, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.connections.connection import Connection
from otelbpf.telemetry.ledger import ByteAccount
from otelbpf.tls.carriers import Carriers, overheads

PID = 100
T13, ANY = (17,), (17, 24, 16)


def connection(number: int) -> Connection:
    return Connection(number.to_bytes(16, "big"), bytes(40), 0, 0, ByteAccount())


A, B, C, SOCKET, OTHER = (connection(number) for number in range(5))


def test_a_sent_record_of_a_known_cipher_is_enough() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is A


def test_of_an_unknown_cipher_it_takes_two() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)
    assert carriers.sent(PID, 1, SOCKET, [124], ANY) is None
    carriers.wrote(PID, 1, A, 30)

    assert carriers.sent(PID, 1, SOCKET, [54], ANY) is A


def test_received_records_take_two() -> None:
    carriers = Carriers()
    carriers.received(PID, 1, SOCKET, [117, 40], T13)
    assert carriers.read(PID, 1, A, 100) is None

    assert carriers.read(PID, 1, A, 23) is SOCKET


def test_two_that_wrote_as_much_prove_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)
    carriers.wrote(PID, 1, B, 100)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is None


def test_another_thread_proves_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 2, SOCKET, [117], T13) is None


def test_threads_that_send_for_each_other_prove_nothing() -> None:
    """One encrypts A and the other sends it, while that other one has as much of B to send."""
    carriers = Carriers()
    carriers.wrote(PID, 2, A, 100)
    carriers.wrote(PID, 1, B, 100)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is None


def test_what_could_not_be_told_apart_before_is_a_rival_still() -> None:
    """uvloop sends at the end of a turn: A and B wrote as much, and then A and C."""
    carriers = Carriers()
    for wrote in ((A, B), (A, C)):
        for plain in wrote:
            carriers.wrote(PID, 1, plain, 100)
        for _ in wrote:
            assert carriers.sent(PID, 1, SOCKET, [117], T13) is None
        carriers.forget(B)


def test_threads_that_receive_for_each_other_prove_nothing() -> None:
    """Each time one receives what the other one decrypts, and the lengths are the same."""
    carriers = Carriers()
    for _ in range(5):
        carriers.received(PID, 1, SOCKET, [117], T13)
        carriers.received(PID, 2, OTHER, [117], T13)

        assert carriers.read(PID, 1, B, 100) is None
        assert carriers.read(PID, 2, A, 100) is None


def test_threads_of_another_process_do_not_matter() -> None:
    carriers = Carriers()
    carriers.wrote(PID + 1, 2, B, 100)
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is A


def test_sockets_of_another_process_do_not_matter() -> None:
    carriers = Carriers()
    carriers.received(PID + 1, 2, OTHER, [117, 40], T13)
    carriers.received(PID, 1, SOCKET, [117, 40], T13)
    assert carriers.read(PID, 1, A, 100) is None

    assert carriers.read(PID, 1, A, 23) is SOCKET


def test_a_session_that_goes_from_thread_to_thread_is_no_rival_of_its_own() -> None:
    """What another thread has written of it proves nothing against it."""
    carriers = Carriers()
    carriers.wrote(PID, 2, A, 100)
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is A


def test_a_socket_that_goes_from_thread_to_thread_is_no_rival_of_its_own() -> None:
    carriers = Carriers()
    carriers.received(PID, 2, SOCKET, [117, 40], T13)
    carriers.received(PID, 1, SOCKET, [117, 40], T13)
    assert carriers.read(PID, 1, A, 100) is None

    assert carriers.read(PID, 1, A, 23) is SOCKET


def test_a_contradiction_takes_everything_back() -> None:
    carriers = Carriers()
    carriers.received(PID, 1, SOCKET, [117], T13)
    assert carriers.read(PID, 1, A, 100) is None
    carriers.received(PID, 1, OTHER, [50], T13)
    assert carriers.read(PID, 1, A, 33) is None
    carriers.received(PID, 1, SOCKET, [60], T13)
    assert carriers.read(PID, 1, A, 43) is None
    carriers.received(PID, 1, SOCKET, [61], T13)

    assert carriers.read(PID, 1, A, 44) is SOCKET


def test_full_records_say_nothing() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 16_384)
    assert carriers.sent(PID, 1, SOCKET, [16_401], T13) is None
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 1, SOCKET, [16_401, 117], T13) is A


def test_tickets_may_stand_before_the_answer() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)

    assert carriers.sent(PID, 1, SOCKET, [234, 234, 117], T13) is A


def test_what_is_forgotten_is_no_candidate() -> None:
    carriers = Carriers()
    carriers.wrote(PID, 1, A, 100)
    carriers.wrote(PID, 1, B, 100)
    carriers.forget(B)

    assert carriers.sent(PID, 1, SOCKET, [117], T13) is A


_step = st.tuples(
    st.sampled_from(("write", "send", "receive", "read")),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from((100, 200)),
)


@given(st.lists(_step, max_size=40), st.sampled_from((T13, ANY)))
def test_however_threads_share_the_work_no_session_gets_the_socket_of_another(
    steps: list[tuple[str, int, int, int]], added: tuple[int, ...]
) -> None:
    """Each step is of any thread: a session encrypts or decrypts, a socket sends all there is or receives a record."""
    carriers = Carriers()
    plains, sockets = ([connection(10 * kind + number) for number in range(3)] for kind in (1, 2))
    unsent: list[list[int]] = [[] for _ in plains]
    unread: list[list[int]] = [[] for _ in plains]
    known: set[int] = set()
    for what, tid, number, length in steps:
        if number in known:
            continue
        plain, carrier = plains[number], sockets[number]
        told: Connection | None = None
        right = carrier
        if what == "write":
            carriers.wrote(PID, tid, plain, length)
            unsent[number].append(length)
        elif what == "send":
            records = [length + 17 for length in unsent[number]]
            unsent[number].clear()
            told, right = carriers.sent(PID, tid, carrier, records, added), plain
        elif what == "receive":
            carriers.received(PID, tid, carrier, [length + 17], added)
            unread[number].append(length)
        elif unread[number]:
            told = carriers.read(PID, tid, plain, unread[number].pop(0))
        if told is not None:
            assert told is right
            known.add(number)
            carriers.forget(plain)
            carriers.forget(carrier)


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
