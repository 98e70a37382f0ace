"""A stream delivers every byte once, in order, at its time; what is missing comes as a gap and on the account."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otelbpf.connections.stream import MAX_WAITING, REORDER_WINDOW_NS, Piece, Stream, explain_holes
from otelbpf.events.types import Data
from otelbpf.events.wire import Unseen as Why
from otelbpf.protocols.base import Gap
from otelbpf.telemetry.ledger import Ledger, Unseen


def record(
    offset: int, data: bytes, *, time_ns: int = 0, length: int | None = None, tail: bytes = b"", why: Why = Why.NONE
) -> Data:
    size = len(data) if length is None else length
    return Data(bytes(16), time_ns, 7, 7, why << 8, bytes(40), offset, size, data, tail)


def text(pieces: list[Piece]) -> bytes:
    assert all(piece.gap is None for piece in pieces)
    return b"".join(piece.data for piece in pieces)


@given(st.permutations(range(8)), st.data())
def test_order_of_arrival_does_not_matter(order: list[int], data: st.DataObject) -> None:
    """Whatever the order, and with any record twice, the bytes come once and in order, with the first sight's times."""
    parts = [bytes([65 + i]) * (i + 1) for i in range(8)]
    starts = [sum(map(len, parts[:i])) for i in range(8)]
    again = data.draw(st.lists(st.sampled_from(range(8)), max_size=4))
    stream, ledger = Stream(ledger := Ledger()), ledger
    pieces: list[Piece] = []
    for i in [*order, *again]:
        pieces += stream.add(record(starts[i], parts[i], time_ns=i))

    assert text(pieces) == b"".join(parts)
    assert [stream.time_at(start) for start in starts] == list(range(8))
    assert (ledger.kernel_bytes, ledger.seen_bytes, ledger.bytes_balance()) == (36, 36, 0)
    assert not stream.waits


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=12))
def test_overlapping_records_deliver_each_byte_once(cuts: list[tuple[int, int]]) -> None:
    """Retransmissions cut differently than the original deliver nothing twice, and holes are what no record covered."""
    whole = bytes(range(65, 65 + 42))
    ledger = Ledger()
    stream = Stream(ledger)
    pieces: list[Piece] = []
    for offset, size in cuts:
        pieces += stream.add(record(offset, whole[offset : offset + size]))
    pieces += stream.flush()

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
    stream = Stream(ledger)

    pieces = stream.add(record(0, b"abc", length=20, tail=b"stuvwxyz", why=Why.BUDGET))

    assert pieces == [Piece(0, b"abc"), Piece(3, b"", Gap(17, deliberate=True, tail=b"stuvwxyz"))]
    assert (ledger.seen_bytes, dict(ledger.unseen_bytes)) == (11, {Unseen.BEYOND_BUDGET: 9})


def test_a_tail_that_overlaps_the_prefix_is_not_seen_twice() -> None:
    """Ten of twelve bytes copied and a tail of eight: twelve seen."""
    ledger = Ledger()
    Stream(ledger).add(record(0, b"0123456789", length=12, tail=b"456789ab", why=Why.BUDGET))

    assert (ledger.seen_bytes, ledger.unseen_bytes.total(), ledger.bytes_balance()) == (12, 0, 0)


def test_content_that_was_never_in_user_memory_is_a_gap_of_its_own_reason() -> None:
    """sendfile: known in length, not in content, and not a budget's cut."""
    ledger = Ledger()

    (piece,) = Stream(ledger).add(record(0, b"", length=4096, why=Why.SENDFILE))

    assert piece == Piece(0, b"", Gap(4096, deliberate=False))
    assert dict(ledger.unseen_bytes) == {Unseen.SENDFILE: 4096}


def test_a_hole_waits_for_the_reorder_window_and_is_then_a_gap() -> None:
    """Not before the window has passed."""
    ledger = Ledger()
    stream = Stream(ledger)

    assert stream.add(record(5, b"later", time_ns=1000)) == []
    assert stream.overdue(1000 + REORDER_WINDOW_NS) == []
    assert stream.overdue(1001 + REORDER_WINDOW_NS) == [
        Piece(0, b"", Gap(5, deliberate=False)),
        Piece(5, b"later"),
    ]
    assert dict(ledger.unseen_bytes) == {Unseen.HOLE: 5}
    assert ledger.bytes_balance() == 0


def test_too_many_waiting_records_end_the_wait() -> None:
    """Memory is bounded: record MAX_WAITING + 1 turns the hole into a gap."""
    stream = Stream(Ledger())
    for i in range(MAX_WAITING):
        assert not stream.add(record(1 + 2 * i, b"x"))

    pieces = stream.add(record(1 + 2 * MAX_WAITING, b"x"))

    assert pieces[:2] == [Piece(0, b"", Gap(1, deliberate=False)), Piece(1, b"x")]


def test_forgetting_keeps_the_time_of_the_offset_itself() -> None:
    """Times before the offset go, the one that covers it stays."""
    stream = Stream(Ledger())
    for i in range(5):
        stream.add(record(10 * i, bytes(10), time_ns=i))

    stream.forget(25)

    assert [stream.time_at(offset) for offset in (25, 30, 49)] == [2, 3, 4]


def test_holes_are_explained_by_what_the_kernel_counted() -> None:
    """First the muted bytes, then those that found no room, and the rest stays a hole."""
    ledger = Ledger()
    ledger.unseen_bytes[Unseen.HOLE] = 100

    explain_holes(ledger, 100, muted=30, ring_full=50)

    assert ledger.unseen_bytes == {Unseen.HOLE: 20, Unseen.MUTED: 30, Unseen.RING_FULL: 50}
