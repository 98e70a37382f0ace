"""A connection delivers every byte of both directions once, in order, at its time; what is missing is a gap and on
the account."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otelbpf.connections.connection import MAX_HELD, REORDER_WINDOW_NS, Connection
from otelbpf.connections.piece import Piece
from otelbpf.connections.stream import explain_holes
from otelbpf.events.traffic import Data
from otelbpf.events.wire import Flag
from otelbpf.events.wire import Unseen as Why
from otelbpf.protocols.base import Gap
from otelbpf.telemetry.ledger import Ledger, Unseen


def record(
    offset: int,
    data: bytes,
    *,
    time_ns: int = 0,
    length: int | None = None,
    tail: bytes = b"",
    why: Why = Why.NONE,
    sent: bool = False,
) -> Data:
    size = len(data) if length is None else length
    flags = (why << 8) | (Flag.SENT if sent else 0)
    return Data(bytes(16), time_ns, 7, 7, flags, bytes(40), offset, size, data, tail)


def connect(ledger: Ledger | None = None) -> Connection:
    return Connection(bytes(16), bytes(40), int(Flag.SERVER), 0, ledger or Ledger())


def text(pieces: list[Piece]) -> bytes:
    assert all(piece.gap is None for piece in pieces)
    return b"".join(piece.data for piece in pieces)


@given(st.permutations(range(8)), st.data())
def test_order_of_arrival_does_not_matter(order: list[int], data: st.DataObject) -> None:
    """Whatever the order, and with any record twice, the bytes come once and in order, with the first sight's times."""
    parts = [bytes([65 + i]) * (i + 1) for i in range(8)]
    starts = [sum(map(len, parts[:i])) for i in range(8)]
    again = data.draw(st.lists(st.sampled_from(range(8)), max_size=4))
    ledger = Ledger()
    connection = connect(ledger)
    pieces: list[Piece] = []
    for i in [*order, *again]:
        pieces += connection.add(record(starts[i], parts[i], time_ns=i))

    assert text(pieces) == b"".join(parts)
    assert [connection.received.time_at(start) for start in starts] == list(range(8))
    assert (ledger.kernel_bytes, ledger.seen_bytes, ledger.bytes_balance()) == (36, 36, 0)
    assert not connection.held


def test_the_other_direction_waits_with_a_hole() -> None:
    """A response must not be seen before the request that is held back, whichever comes to fill the hole."""
    connection = connect()
    assert text(list(connection.add(record(5, b"second")))) == b""
    assert text(list(connection.add(record(0, b"answer", sent=True)))) == b""

    assert list(connection.add(record(0, b"first"))) == [
        Piece(False, 0, b"first"),
        Piece(False, 5, b"second"),
        Piece(True, 0, b"answer"),
    ]


def test_a_piece_is_made_when_the_one_before_was_taken() -> None:
    """Whoever takes a piece sees the other stream where it stood then."""
    connection = connect()
    list(connection.add(record(5, b"second")))
    list(connection.add(record(0, b"answer", sent=True)))

    positions = [connection.sent.position for _ in connection.finish(6, 11, 0)]
    assert positions == [0, 0, 6]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=12))
def test_overlapping_records_deliver_each_byte_once(cuts: list[tuple[int, int]]) -> None:
    """Retransmissions cut differently than the original deliver nothing twice, and holes are what no record covered."""
    whole = bytes(range(65, 65 + 42))
    ledger = Ledger()
    connection = connect(ledger)
    pieces: list[Piece] = []
    for offset, size in cuts:
        pieces += connection.add(record(offset, whole[offset : offset + size]))
    pieces += connection.finish(0, 0, 0)

    end = max(offset + size for offset, size in cuts)
    covered = {i for offset, size in cuts for i in range(offset, offset + size)}
    at = 0
    for piece in pieces:
        assert piece.offset == at
        at += piece.gap.size if piece.gap else len(piece.data)
        assert piece.gap or piece.data == whole[piece.offset : at]
    assert at == end
    assert ledger.seen_bytes == len(covered)
    assert ledger.unseen_bytes.total() == end - len(covered)
    assert ledger.bytes_balance() == 0


def test_a_record_cut_by_the_budget_is_a_deliberate_gap_with_its_tail() -> None:
    """The tail counts as seen, the rest as beyond the budget."""
    ledger = Ledger()
    connection = connect(ledger)

    pieces = connection.add(record(0, b"abc", length=20, tail=b"stuvwxyz", why=Why.BUDGET))

    assert pieces == [Piece(False, 0, b"abc"), Piece(False, 3, b"", Gap(17, deliberate=True, tail=b"stuvwxyz"))]
    assert (ledger.seen_bytes, dict(ledger.unseen_bytes)) == (11, {Unseen.BEYOND_BUDGET: 9})


def test_a_tail_that_overlaps_the_prefix_is_not_seen_twice() -> None:
    """Ten of twelve bytes copied and a tail of eight: twelve seen."""
    ledger = Ledger()
    connect(ledger).add(record(0, b"0123456789", length=12, tail=b"456789ab", why=Why.BUDGET))

    assert (ledger.seen_bytes, ledger.unseen_bytes.total(), ledger.bytes_balance()) == (12, 0, 0)


def test_content_that_was_never_in_user_memory_is_a_gap_of_its_own_reason() -> None:
    """sendfile: known in length, not in content, and not a budget's cut."""
    ledger = Ledger()

    (piece,) = connect(ledger).add(record(0, b"", length=4096, why=Why.SENDFILE))

    assert piece == Piece(False, 0, b"", Gap(4096, deliberate=False))
    assert dict(ledger.unseen_bytes) == {Unseen.SENDFILE: 4096}


def test_a_hole_waits_for_the_reorder_window_and_is_then_a_gap() -> None:
    """Not before the window has passed."""
    ledger = Ledger()
    connection = connect(ledger)

    assert list(connection.add(record(5, b"later", time_ns=1000))) == []
    assert list(connection.overdue(1000 + REORDER_WINDOW_NS)) == []
    assert list(connection.overdue(1001 + REORDER_WINDOW_NS)) == [
        Piece(False, 0, b"", Gap(5, deliberate=False)),
        Piece(False, 5, b"later"),
    ]
    assert dict(ledger.unseen_bytes) == {Unseen.HOLE: 5}
    assert ledger.bytes_balance() == 0


def test_records_that_go_on_coming_end_the_wait_without_a_clock() -> None:
    """Of either direction, and once they are later than the window, not before."""
    for sent in (False, True):
        connection = connect()
        assert list(connection.add(record(2, b"b", time_ns=1000))) == []
        at_the_window = record(0 if sent else 3, b"c", time_ns=1000 + REORDER_WINDOW_NS, sent=sent)
        assert list(connection.add(at_the_window)) == []
        behind_it = record(1 if sent else 4, b"d", time_ns=1001 + REORDER_WINDOW_NS, sent=sent)
        assert list(connection.add(behind_it)) == [
            Piece(False, 0, b"", Gap(2, deliberate=False)),
            Piece(False, 2, b"b"),
            Piece(sent, 0 if sent else 3, b"c"),
            Piece(sent, 1 if sent else 4, b"d"),
        ]
        assert not connection.held


def test_too_many_held_records_end_the_wait() -> None:
    """Memory is bounded: record MAX_HELD + 1 turns the hole into a gap."""
    connection = connect()
    for i in range(MAX_HELD):
        assert list(connection.add(record(1 + 2 * i, b"x"))) == []

    pieces = list(connection.add(record(1 + 2 * MAX_HELD, b"x")))

    assert pieces == [Piece(False, 0, b"", Gap(1, deliberate=False)), Piece(False, 1, b"x")]


def test_forgetting_keeps_the_time_of_the_offset_itself() -> None:
    """Times before the offset go, the one that covers it stays."""
    connection = connect()
    for i in range(5):
        list(connection.add(record(10 * i, bytes(10), time_ns=i)))

    connection.received.forget(25)

    assert [connection.received.time_at(offset) for offset in (25, 30, 49)] == [2, 3, 4]


def test_holes_are_explained_by_what_the_kernel_counted() -> None:
    """First the muted bytes, then those that found no room, and the rest stays a hole."""
    ledger = Ledger()
    ledger.unseen_bytes[Unseen.HOLE] = 100

    explain_holes(ledger, 100, muted=30, ring_full=50)

    assert ledger.unseen_bytes == {Unseen.HOLE: 20, Unseen.MUTED: 30, Unseen.RING_FULL: 50}
