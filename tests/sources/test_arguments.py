"""Arguments are bounded, and secrets with a name beside them are gone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.sources.arguments import MAX_ARGUMENT_CHARS, MAX_ARGUMENTS, MAX_CHARS, bounded, redacted


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("--password=hunter2", "--password=REDACTED"),
        ("--db-password=hunter2 and more", "--db-password=REDACTED"),
        ("-Djavax.net.ssl.keyStorePassword=changeit", "-Djavax.net.ssl.keyStorePassword=REDACTED"),
        ("DB_PASSWD=x", "DB_PASSWD=REDACTED"),
        ("dbpassword=x", "dbpassword=REDACTED"),
        ("token=abc", "token=REDACTED"),
        ("--authtoken=abc", "--authtoken=REDACTED"),
        ("--github-token:abc", "--github-token:REDACTED"),
        ("--api-key=abc", "--api-key=REDACTED"),
        ("apiKey=abc", "apiKey=REDACTED"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=REDACTED"),
        ("AccountName=a;AccountKey=abc==", "AccountName=a;AccountKey=REDACTED"),
        ('{"user": "x", "password": "y"}', '{"user": "x", "password": REDACTED'),
        ("password = 'x'", "password = REDACTED"),
        ("Authorization: Bearer abc", "Authorization: REDACTED"),
        ("Cookie: a=b", "Cookie: REDACTED"),
        ("bearer abc", "bearer REDACTED"),
        ("postgres://me:secret@db/app", "postgres://REDACTED@db/app"),
        ("--url=https://me:secret@host/?a=b", "--url=https://REDACTED@host/?a=b"),
        ("https://token@github.com/x.git", "https://REDACTED@github.com/x.git"),
        ("http://host/?page=2&token=abc", "http://host/?page=2&token=REDACTED"),
    ],
)
def test_secrets_are_replaced(argument: str, shown: str) -> None:
    """Whatever stands behind a name that says what it is, and the user information of a URL."""
    assert redacted(argument) == shown


@pytest.mark.parametrize(
    "argument",
    [
        "--author=me",
        "--port=8080",
        "app:app",
        "http://host:80/path@x",
        "-Xmx512m",
        "--keyspace=users",
        "--key=value",
        "a@b.example",
        "--password",
        "tokenizer.py",
        "/etc/passwd",
        "--tokenizer=fast",
        "basic",
        "--compass=north",
    ],
)
def test_other_arguments_stay(argument: str) -> None:
    """What only resembles a secret is shown."""
    assert redacted(argument) == argument


def test_a_secret_in_the_next_argument() -> None:
    """`--password hunter2`; an option that follows is not the secret."""
    arguments = [b"x", b"--password", b"hunter2", b"--token", b"--verbose", b"file", b"--secret-key", b"s", b"t"]

    assert bounded(arguments) == (
        "x",
        "--password",
        "REDACTED",
        "--token",
        "--verbose",
        "file",
        "--secret-key",
        "REDACTED",
        "t",
    )


def test_bounds() -> None:
    """On each argument, on their number, on all of them."""
    assert bounded([b"x" * 5000]) == ("x" * MAX_ARGUMENT_CHARS,)
    assert bounded([b"x"] * 1000) == ("x",) * MAX_ARGUMENTS
    assert sum(map(len, bounded([b"x" * 200] * 100))) == MAX_CHARS
    assert len(bounded([b"x" * 256] * 100)) == MAX_CHARS // 256


def test_a_secret_behind_the_bound_is_not_half_shown() -> None:
    """Redaction comes before the cut."""
    assert bounded([b"a" * 240 + b" password=" + b"s" * 50]) == ("a" * 240 + " password=REDACT",)


def test_arguments_that_are_no_text() -> None:
    """Bytes outside UTF-8 are shown as such."""
    assert bounded([b"caf\xe9", b""]) == ("caf\ufffd", "")


@given(st.lists(st.binary(max_size=300), max_size=140))
def test_anything_at_all(arguments: list[bytes]) -> None:
    """No argument raises, and the bounds hold."""
    kept = bounded(arguments)

    assert len(kept) <= MAX_ARGUMENTS
    assert sum(map(len, kept)) <= MAX_CHARS


@pytest.mark.parametrize("unit", [b"a-", b"a=", b"password", b"a.b:", b"://", b"bearer ", b" ", b"A", b"\"' ="])
def test_no_argument_is_slow(unit: bytes) -> None:
    """A process may say anything in its arguments; reading 128 of the longest kind takes no noticeable time."""
    arguments = [unit * 4096] * MAX_ARGUMENTS

    began = time.process_time()
    bounded(arguments)

    assert time.process_time() - began < 1.0
