"""Bodies count what belongs to them, seen or not, and stop where they end."""

from __future__ import annotations

import pytest

from otelbpf.protocols.base import ProtocolError
from otelbpf.protocols.http1_body import Body, Chunked, Sized, UntilClose
from otelbpf.protocols.http1_head import Heads


def chunked(limit: int = 1000) -> Chunked:
    return Chunked(Heads(), limit)


def feed(body: Body, data: str, step: int) -> None:
    """In pieces, every one of which it takes."""
    for i in range(0, len(data), step):
        piece = data[i : i + step].encode()
        assert body.feed(piece, 0) == len(piece)


def test_a_sized_body_stops_at_its_length() -> None:
    """What lies behind it is not its own."""
    body = Sized(5)
    assert body.feed(b"abc", 1) == 3
    assert (body.size, body.done) == (2, False)
    assert body.feed(b"defg", 0) == 3
    assert (body.size, body.done) == (5, True)


def test_a_sized_body_counts_what_was_not_seen() -> None:
    """And says what is beyond it."""
    body = Sized(5)
    assert body.lose(3) == 0
    assert (body.size, body.done) == (3, False)
    assert body.lose(7) == 5
    assert (body.size, body.done) == (5, True)


def test_a_body_until_the_close_takes_everything() -> None:
    """Seen or not."""
    body = UntilClose()
    assert body.feed(b"abc", 1) == 3
    assert body.lose(100) == 0
    assert (body.size, body.done) == (102, False)


def test_chunks_are_counted_without_their_framing() -> None:
    """Sizes, extensions and trailers are no content."""
    body = chunked()
    data = b"3;x=y\r\nabc\r\n0A \t\r\n0123456789\r\n0;z\r\nA: b\r\n\r\nrest"
    assert body.feed(data, 0) == len(data) - 4
    assert (body.size, body.done) == (13, True)


@pytest.mark.parametrize(
    ("seen", "size", "behind"), [("5\r\n", 5, 0), ("5\r\nab", 5, 0), ("5\r\nab", 3, 0), ("5\r\nab", 6, -1)]
)
def test_a_chunk_counts_what_was_not_seen(seen: str, size: int, behind: int) -> None:
    """Up to the CRLF that closes it."""
    body = chunked()
    body.feed(seen.encode(), 0)
    assert body.lose(size) == behind
    assert body.size == (5 if behind == 0 else 2)


@pytest.mark.parametrize("seen", ["", "5", "5\r", "0\r\n", "0\r\nA: b", "1\r\nx\r\n"])
def test_between_chunks_the_framing_is_lost(seen: str) -> None:
    """A single byte is enough."""
    body = chunked()
    body.feed(seen.encode(), 0)
    assert body.lose(1) == -1


@pytest.mark.parametrize(
    "data",
    ["5;" + "x" * 1000 + "\r\n", "0\r\n" + "A: b\r\n" * 200 + "\r\n", "00000000000000000000F\r\n", "\r\n", "5\n"],
)
def test_what_is_no_chunk_is_refused(data: str) -> None:
    """Whole or byte by byte; lines and trailers beyond the limit too."""
    for step in (1, len(data)):
        with pytest.raises(ProtocolError):
            feed(chunked(), data + "hello\r\n", step)


@pytest.mark.parametrize(
    "end", ["0\r\n\r\n", "0\r\n\n", "0\r\nA: b\n\n", "0\r\nA: b\r\n\r\n", "00;x\r\nA: b\r\n c\r\n\r\n"]
)
def test_chunks_end_with_an_empty_line(end: str) -> None:
    """Behind trailers or none, however it ends itself."""
    for step in (1, len(end)):
        body = chunked()
        feed(body, end, step)
        assert (body.done, body.size) == (True, 0)


@pytest.mark.parametrize("line", ["5;" + "x" * 996 + "\r\n", "0\r\nA: " + "b" * 993 + "\r\n\r\n"])
def test_the_limit_is_the_same_however_the_bytes_are_cut(line: str) -> None:
    """Exactly as much as is kept."""
    for step in (1, len(line)):
        feed(chunked(), line, step)
