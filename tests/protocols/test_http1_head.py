"""Reading heads: what is kept of them, what is remembered, and that remembering changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.protocols.base import ProtocolError
from otelbpf.protocols.http1_head import CHUNKED, UNFRAMED, Heads, shared_heads, whole_lines
from tests.protocols.conversations import patient
from tests.protocols.test_http1_judge import lines, usual

heads = st.builds(
    lambda start, fields: start + b"\r\n" + b"".join(fields) + b"\r\n",
    st.sampled_from([b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"]),
    st.lists(usual | lines, max_size=6),
)


@patient
@given(st.lists(heads, min_size=2, max_size=12))
def test_what_was_learned_changes_nothing(several: list[bytes]) -> None:
    """A reader that has seen many heads, with hardly any room to remember, says what a new one says."""
    old = Heads(remembered=4)
    for head in several * 2:
        for read in ("request", "response"):
            assert _said(old, read, head) == _said(Heads(), read, head)


def _said(reader: Heads, read: str, head: bytes) -> object:
    try:
        return getattr(reader, read)(head)
    except ProtocolError:
        return "refused"


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand different heads, with a thousand places."""
    reader = Heads(remembered=1000)
    for i in range(10_000):
        head = b"\r\nX-%d: %d\r\n\r\n" % (i, i)
        for _ in range(2):
            reader.request(b"GET / HTTP/1.1" + head)
            reader.response(b"HTTP/1.1 200 R%d" % i + head)

    assert [len(m) <= 1000 for m in (reader._lines, reader._names, reader._starts, reader._once)] == [True] * 4
    assert [len(m) <= 250 for m in (reader._blocks, reader._responses)] == [True] * 2


def test_long_lines_are_not_remembered() -> None:
    """A cookie of four kilobytes is read anew each time."""
    reader = Heads()
    head = b"GET / HTTP/1.1\r\nCookie: " + b"x" * 4096 + b"\r\n\r\n"
    assert reader.request(head) == reader.request(head) == ("GET", "/", "1.1", {}, UNFRAMED, len(head))
    assert (reader._lines, reader._blocks) == ({}, {})


def test_only_wanted_headers_are_kept() -> None:
    """Those of the protocol always, repeated ones joined (RFC 9110 section 5.3)."""
    head = b"GET / HTTP/1.1\r\nHOST: h\r\nX-A: 1\r\nAccept: */*\r\nx-a: 2\r\nTransfer-Encoding: Chunked\r\n\r\n"
    found = Heads(frozenset({"x-a"})).request(head)
    assert found[3:5] == ({"host": "h", "x-a": "1, 2", "transfer-encoding": "chunked"}, CHUNKED)


def test_readers_with_the_same_wish_are_one() -> None:
    """So that connections learn from each other."""
    assert shared_heads(frozenset({"a"})) is shared_heads(frozenset({"a"}))
    assert shared_heads(frozenset({"a"})) is not shared_heads(frozenset({"b"}))


@pytest.mark.parametrize(
    ("begun", "whole"),
    [
        (b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET / HTTP/1.1\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nA: b\r\nHost: h\r\n x\r\n\ty\r\n z", b"GET / HTTP/1.1\r\nA: b\r\n\r\n"),
        (b"GET / HTTP/1.1\nHost: h\nA: b\r\n", b"GET / HTTP/1.1\nHost: h\n\r\n"),
        (b"GET / HTTP/1.1\r\n x", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
def test_lines_that_may_go_on_are_not_whole(begun: bytes, whole: bytes) -> None:
    """A line counts once it is known that the next one is no continuation."""
    assert whole_lines(begun) == whole
