"""HPACK by hand: the examples of RFC 7541, what its table must do, and what it cannot know."""

from __future__ import annotations

import time

import pytest
from hpack import Encoder, HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as reference
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.protocols.base import ProtocolError
from otelbpf.protocols.hpack_decode import Decoder, _Wishes
from otelbpf.protocols.hpack_strings import CutError, decode_huffman, integer
from otelbpf.protocols.hpack_table import MOST_KEPT, Table
from otelbpf.protocols.http2_head import OWN, Head

WANTED = frozenset({"custom-key", "cache-control", "location", "date", "a", "b", "c", "cookie", "x-forwarded-for"})


def decoder(*, complete: bool = True, limit: int = 65536) -> Decoder:
    return Decoder(WANTED, limit=limit, complete=complete)


def test_the_requests_of_appendix_c() -> None:
    """C.4: three requests, with Huffman."""
    heads = [
        decode
        for listener in [decoder()]
        for decode in (
            listener.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")),
            listener.decode(bytes.fromhex("828684be5886a8eb10649cbf")),
            listener.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")),
        )
    ]

    assert [(head.method, head.target) for head in heads] == [("GET", "/"), ("GET", "/"), ("GET", "/index.html")]
    assert [head.headers for head in heads] == [
        {":scheme": "http", "host": "www.example.com"},
        {":scheme": "http", "host": "www.example.com", "cache-control": "no-cache"},
        {":scheme": "https", "host": "www.example.com", "custom-key": "custom-value"},
    ]


def test_the_responses_of_appendix_c() -> None:
    """C.5: a table of 256 octets, from which entries are evicted."""
    listener = decoder()
    listener.decode(bytes.fromhex("3fe101"))
    blocks = (
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f"
        "7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b42"
        "5a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    )
    heads = [listener.decode(bytes.fromhex(block)) for block in blocks]

    assert [head.status for head in heads] == [302, 307, 200]
    assert [head.headers["date"] for head in heads] == [f"Mon, 21 Oct 2013 20:13:{s} GMT" for s in (21, 21, 22)]
    assert [size for _, _, size in listener.table.entries] == [65, 52, 98]
    assert listener.table.complete


def field(name: bytes, value: bytes, first: int = 0x40) -> bytes:
    """A literal with a literal name."""
    return bytes((first, len(name))) + name + bytes((len(value),)) + value


def test_joined_midway_only_what_came_since_is_known() -> None:
    """Indices from the newest on are right; what is older has no name."""
    listener = decoder(complete=False)
    head = listener.decode(b"\xbe\x82" + field(b"a", b"1") + b"\xbe\xbf")

    assert (head.method, head.headers) == ("GET", {"a": "1, 1"})
    assert head.of_request == {"", ":path", ":scheme", ":authority"}
    assert head.of_response == {"", ":status"}

    listener.decode(field(b"b", b"2"))
    head = listener.decode(b"\xbe\xbf\xc0")
    assert head.headers == {"a": "1", "b": "2"}
    assert head.of_trailers == {""}


def test_a_value_whose_name_is_unknown_is_no_value() -> None:
    """Neither where it is sent nor where it is referred to."""
    listener = decoder(complete=False)
    head = listener.decode(b"\x7e\x01x" + b"\xbe")

    assert head.headers == {}
    assert head.of_trailers == {""}
    assert listener.table.entries == [(None, None, 33)]


def test_an_empty_table_is_known_again() -> None:
    """A size update to 0, even after a missed block; then an index beyond the entries is an error."""
    listener = decoder()
    listener.decode(field(b"a", b"1"))
    listener.forget()
    assert listener.decode(b"\xbe").of_trailers == {""}
    assert listener.decode(b"\x20\x3f\xe1\x1f" + field(b"a", b"2") + b"\xbe").headers == {"a": "2, 2"}
    with pytest.raises(ProtocolError):
        listener.decode(b"\xbf")


def test_what_a_known_size_has_evicted_is_gone() -> None:
    """Where the size is known, entries that fill it prove that nothing older is left."""
    table = Table(complete=False)
    table.resize(100)
    table.insert("a", "1", 60)
    assert not table.complete
    table.insert("b", "2", 60)
    assert table.complete
    assert table.entries == [("b", "2", 60)]


def test_a_size_that_is_not_known_proves_nothing() -> None:
    """Entries are dropped as if the size were what settings allow, at least the default."""
    table = Table(complete=False)
    table.insert("a", "1", 4032)
    table.insert("b", "2", 4032)
    assert [name for name, _, _ in table.entries] == ["b"]
    assert not table.complete
    table.allow(10_000)
    table.insert("c", "3", 4032)
    assert [name for name, _, _ in table.entries] == ["b", "c"]


def test_settings_alone_do_not_change_a_size_that_is_known() -> None:
    """The sender says in its blocks which size it uses (RFC 7541 section 4.2)."""
    table = Table(complete=True)
    table.allow(10_000)
    table.insert("a", "1", 4032)
    table.insert("b", "2", 4032)
    assert [name for name, _, _ in table.entries] == ["b"]


def test_an_entry_that_is_too_large_empties_the_table() -> None:
    """RFC 7541 section 4.4. The sender's may have had room for it, where its size is not known."""
    table = Table(complete=True)
    table.insert("a", "1", 34)
    table.insert("b", "2", 5032)
    assert table.entries == []
    assert table.complete


def test_more_is_not_kept_than_browsers_allow() -> None:
    """A table of a gigabyte is kept in part, and then not known whole."""
    table = Table(complete=True)
    table.resize(1 << 30)
    for i in range(100):
        table.insert("a", str(i), 1032)
    assert len(table.entries) == MOST_KEPT // 1032
    assert not table.complete
    assert table.get(62 + 50)[1] == "49"


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # index 62 of an empty table
        b"\xff\xff\xff\xff\xff\xff\xff",  # an endless integer
        b"\x82\x3f\xe1\x1f",  # a size update behind a field
        b"\x40",
        b"\x40\x01",
        b"\x40\x01a",
        b"\x40\x01a\x05b",
        b"\x40\x81\x00\x01b",  # Huffman that ends within a symbol
        b"\x40\x84\xff\xff\xff\xff\x01b",  # the end of a string within it (section 5.2)
        b"\xff",
        b"\x3f",
    ],
)
def test_what_is_no_block(block: bytes) -> None:
    """It is refused."""
    with pytest.raises(ProtocolError):
        decoder().decode(block)


def test_a_block_that_is_cut_tells_what_is_whole() -> None:
    """And what it may have inserted behind the cut makes the table unknown."""
    listener = decoder()
    listener.decode(field(b"a", b"1"))
    block = b"\x82" + field(b"b", b"2") + b"\xbe" + field(b"c", b"3")
    for size in range(len(block)):
        again = decoder()
        again.decode(field(b"a", b"1"))
        head = again.decode_cut(block[:size])
        assert head.beyond
        assert head.method == ("GET" if size else "")
        assert head.headers == ({"b": "2, 2"} if size > 6 else {"b": "2"} if size > 5 else {})
        assert again.decode(b"\xbe").of_trailers == {""}


def test_the_same_block_means_what_the_table_says_now() -> None:
    """What is remembered of a block is forgotten when the table changes."""
    listener = decoder()
    for value in (b"1", b"2", b"3"):
        listener.decode(field(b"a", value))
        for _ in range(4):
            assert listener.decode(b"\xbe\x82").headers == {"a": value.decode()}
    listener.forget()
    assert listener.decode(b"\xbe\x82").headers == {}


def told(head: Head) -> tuple[object, ...]:
    """All that a head says."""
    of_kinds = (head.of_request, head.of_response, head.of_trailers)
    request = (head.method, head.target, head.grpc)
    return head.headers, *request, head.status, head.pseudo, head.beyond, *of_kinds


def test_blocks_without_a_table_are_remembered_for_all() -> None:
    """The third decoder does not read it."""
    block = field(b"a", b"shared by all", 0x00)
    heads = [decoder().decode(block) for _ in range(3)]
    assert heads[1] is heads[2]
    assert told(heads[0]) == told(heads[1])


def test_crumbs_of_cookies_are_one_again() -> None:
    """RFC 9113 section 8.2.3; other fields are joined as lists are."""
    block = field(b"cookie", b"a=b") + field(b"cookie", b"c=d") + field(b"x-forwarded-for", b"1") * 2
    assert decoder().decode(block).headers == {"cookie": "a=b; c=d", "x-forwarded-for": "1, 1"}


def test_a_bomb_is_kept_as_far_as_the_limit() -> None:
    """One entry of 4000 octets, 16000 references to it: 64 megabytes. The table stays right."""
    listener = decoder(limit=65536)
    listener.decode(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    begin = time.process_time()
    head = listener.decode(b"\xbe" * 16000)
    assert head.beyond
    assert len(head.headers["a"]) == 16 * 4000 + 15 * 2
    assert time.process_time() - begin < 1
    assert listener.decode(b"\xbe").headers == {"a": "x" * 4000}


@given(st.binary(max_size=60))
def test_huffman_as_the_hpack_package_has_it(raw: bytes) -> None:
    """Every string there and back, and every other byte string the same, or refused by both."""
    encoded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(raw)
    assert decode_huffman(encoded) == raw
    try:
        expected: bytes | None = reference(raw)
    except HPACKDecodingError:
        expected = None
    if expected is None:
        with pytest.raises(ProtocolError):
            decode_huffman(raw)
    else:
        assert decode_huffman(raw) == expected


@given(st.integers(0, 1 << 32), st.sampled_from([0x7F, 0x3F, 0x1F, 0x0F]), st.binary(max_size=3))
def test_integers_there_and_back(value: int, prefix: int, behind: bytes) -> None:
    """Those that do not fit in the prefix; every one that is cut is said to be."""
    value += prefix
    rest = value - prefix
    encoded = bytearray([prefix])
    while rest >= 128:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    encoded.append(rest)
    assert integer(bytes(encoded) + behind, 0, prefix) == (value, len(encoded))
    for size in range(1, len(encoded)):
        with pytest.raises(CutError):
            integer(bytes(encoded[:size]), 0, prefix)


names = st.sampled_from(["a", "b", "c", "date", "location", "x-unwanted", ":path", ":method"])
values = st.sampled_from(["1", "2", "/", "GET", "long" * 20, "é", "other"])
lists = st.lists(st.tuples(names, values), max_size=6)


@given(st.lists(st.tuples(lists, st.none() | st.sampled_from([0, 64, 200, 4096])), min_size=1, max_size=12), st.data())
def test_missed_blocks_make_nothing_wrong(
    steps: list[tuple[list[tuple[str, str]], int | None]], data: st.DataObject
) -> None:
    """Any block may be missed, the first ones too: every value that is told was sent, and nothing is missing unsaid."""
    encoder = Encoder()
    listener = decoder(complete=True)
    for fields, size in steps:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=data.draw(st.booleans()))
        if data.draw(st.integers(0, 3)) == 0:
            listener.forget()
            continue
        head = listener.decode(block)
        told = {":method": head.method, ":path": head.target, **head.headers}
        told = {name: value for name, value in told.items() if value}
        for name, value in told.items():
            sent = iter([v for n, v in fields if n == name])
            assert all(part in sent for part in value.split(", "))
        missing = {name for name, _ in fields if name in WANTED or name in (":path", ":method")} - told.keys()
        assert not missing or head.of_trailers == {""}


def test_a_block_that_only_inserts_is_remembered_with_what_it_inserts() -> None:
    """nginx's are so: the third decoder does not read it, and its table is what reading would have made of it."""
    block = field(b"a", b"inserted by all") + field(b"b", b"too") + b"\x88"
    listeners = [decoder() for _ in range(3)]
    heads = [listener.decode(block) for listener in listeners]
    assert heads[1] is heads[2]
    assert [listener.table.entries for listener in listeners] == [listeners[0].table.entries] * 3
    assert listeners[2].decode(b"\xbf\xbe").headers == {"a": "inserted by all", "b": "too"}


def test_what_a_remembered_block_inserts_shifts_what_others_refer_to() -> None:
    """The same reference, before and behind it: what it meant is not remembered any longer."""
    inserts = field(b"a", b"shifted")
    listener = decoder()
    for value in (b"1", b"2", b"3", b"4"):
        listener.decode(field(b"b", value))
        for _ in range(3):
            assert listener.decode(b"\xbe\x82").headers == {"b": value.decode()}
        listener.decode(inserts)
        assert listener.decode(b"\xbe\x82").headers == {"a": "shifted"}
        assert listener.decode(b"\xbf\x82").headers == {"b": value.decode()}


def test_a_block_that_inserts_and_refers_is_read_each_time() -> None:
    """What its reference means depends on what the block itself has shifted."""
    listener = decoder()
    listener.decode(field(b"a", b"0"))
    for before, number in enumerate((b"1", b"1", b"1", b"1")):
        head = listener.decode(field(b"b", number) + b"\xbf")
        assert head.headers == ({"b": "1", "a": "0"} if not before else {"b": "1, 1"})


def test_a_size_update_is_never_passed_over() -> None:
    """However often the block comes: it empties the table each time."""
    block = b"\x20\x3f\xe1\x1f" + field(b"a", b"resized")
    listener = decoder()
    for _ in range(4):
        listener.decode(field(b"b", b"1"))
        listener.decode(block)
        assert [name for name, _, _ in listener.table.entries] == ["a"]


def test_a_block_is_remembered_for_those_who_keep_as_much() -> None:
    """What a limit cut off one decoder's head is there for another with more room."""
    block = field(b"a", b"beyond" * 10, 0x00)
    for _ in range(3):
        assert decoder(limit=50).decode(block).beyond
        assert decoder(limit=500).decode(block).headers == {"a": "beyond" * 10}


kinds_of_blocks = st.lists(lists, min_size=3, max_size=3)
turns = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=40)


@given(kinds_of_blocks, turns, st.sampled_from([64, 200, 4096]))
def test_remembering_changes_nothing(
    kinds: list[list[tuple[str, str]]], order: list[tuple[int, bool]], size: int
) -> None:
    """A decoder that remembers and one that reads every block: the same heads, the same table, all along."""
    encoder = Encoder()
    encoder.header_table_size = size
    remembers, reads = decoder(complete=False), decoder(complete=False)
    for kind, refers in order:
        # As nginx does it: literals with a literal name, inserted each time, and never referred to.
        plain = b"".join(field(name.encode(), value.encode()) for name, value in kinds[kind])
        block = encoder.encode(kinds[kind]) if refers else plain
        reads._wishes = _Wishes(WANTED | OWN, 65536)
        reads._blocks.clear()
        try:
            read = reads.decode(block)
        except ProtocolError:  # an index that the plain blocks have pushed out
            with pytest.raises(ProtocolError):
                remembers.decode(block)
            return
        assert told(remembers.decode(block)) == told(read)
        assert remembers.table.entries == reads.table.entries
        assert (remembers.table.complete, remembers.table._size) == (reads.table.complete, reads.table._size)
