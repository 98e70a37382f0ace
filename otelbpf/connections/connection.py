"""One TCP socket's life as the records tell it: who, with whom, in which role, and its two streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from otelbpf.connections.piece import Piece
from otelbpf.connections.stream import Stream
from otelbpf.events.traffic import Data
from otelbpf.events.wire import Flag
from otelbpf.telemetry.ledger import ByteAccount

REORDER_WINDOW_NS: Final = 50_000_000
"""How long a hole may wait for its bytes. Two CPUs write to the ring within microseconds of each other; packet
captures reorder by a round trip."""
MAX_HELD: Final = 256
"""Records that may wait behind a hole."""

# An IntFlag member's operators are calls into Python.
_SENT: Final = int(Flag.SENT)
_JOINED: Final = int(Flag.JOINED)


class Connection:
    """A traced socket. Two processes of one host that talk to each other have one each."""

    __slots__ = (
        "attachment",
        "calls",
        "closing_ns",
        "conversation",
        "copied_more",
        "ending",
        "endpoints",
        "first_sequence",
        "flags",
        "held",
        "key",
        "muted",
        "opened_ns",
        "received",
        "sent",
        "tls",
        "touched_ns",
    )

    def __init__(self, key: bytes, endpoints: bytes, flags: int, opened_ns: int, ledger: ByteAccount) -> None:
        self.key = key
        self.endpoints = endpoints
        """Raw struct endpoints; its source port is known once the socket is connected."""
        self.flags = flags
        self.first_sequence: tuple[int, int] | None = None
        """TCP sequence numbers of the first byte sent and received, once established; crosswise at the other end."""
        self.opened_ns = opened_ns
        self.touched_ns = opened_ns
        """Time of the newest record."""
        self.received = Stream(False, ledger)
        self.sent = Stream(True, ledger)
        self.held: list[Data] | None = None
        """Records behind a hole, in the order they came; those of the other direction wait with them, because the
        order of requests and responses is worth as much as that of bytes. None where none does."""
        self.ending = False
        """One of the sides has said that it sends no more."""
        self.closing_ns = 0
        """When this side gave it up: a server when it said that it sends no more, a client also when its server did. 0
        as long as none has."""
        self.muted = False
        self.copied_more = False
        self.tls: object = None
        """What the stage for TLS keeps about this connection; None where there is none."""
        self.conversation: object = None
        self.calls: object = None
        """What the stage that makes spans keeps about this connection."""
        self.attachment: object = None
        """What the stage behind keeps about this connection; only that stage looks at it."""

    @property
    def joined(self) -> bool:
        """The socket was open before the probes were."""
        return bool(self.flags & _JOINED)

    def add_whole(self, event: Data) -> bool:
        """Take a record that is next in order and lacks nothing, so that its bytes are the one piece: nearly all are.
        False leaves everything as it was, for `add`."""
        return self.held is None and (self.sent if event.flags & _SENT else self.received).take_whole(event)

    def add(self, event: Data) -> Iterable[Piece]:
        """Take a record; the pieces of both directions that are now in order, each made when it is asked for: whoever
        takes them sees the streams where the piece leaves them."""
        held, stream = self.held, self._stream(event)
        next_in_order = event.offset <= stream.position
        if held is None:
            if next_in_order:
                return stream.deliver(event)
            held = self.held = []
        held.append(event)
        head = held[0]
        if next_in_order and not (event.flags ^ head.flags) & _SENT:
            return self._advance(held)
        # Only a record of the hole's own direction can fill it: all others just wait, however many there are.
        if len(held) > MAX_HELD:
            return self._skip(held)
        return self.overdue(event.time_ns) if event.time_ns - head.time_ns > REORDER_WINDOW_NS else ()

    def overdue(self, now_ns: int) -> Iterator[Piece]:
        """Give up the holes that have waited longer than the reorder window."""
        while self.held is not None and now_ns - self.held[0].time_ns > REORDER_WINDOW_NS:
            yield from self._skip(self.held)

    def finish(self, sent: int, received: int, time_ns: int) -> Iterator[Piece]:
        """Nothing more will come, and the kernel says how far the streams went."""
        while self.held is not None:
            yield from self._skip(self.held)
        yield from self.received.skip_to(received, time_ns)
        yield from self.sent.skip_to(sent, time_ns)

    def _advance(self, held: list[Data]) -> Iterator[Piece]:
        """Deliver what is in order. A hole holds everything behind it, but not what fills it."""
        while held:
            head = held[0]
            stream = self._stream(head)
            if head.offset > stream.position:
                fill = [e for e in held if not (e.flags ^ head.flags) & _SENT and e.offset <= stream.position]
                if not fill:
                    return
                head = fill[0]
            held.remove(head)
            if not held:
                self.held = None
            yield from stream.deliver(head)

    def _skip(self, held: list[Data]) -> Iterator[Piece]:
        """Turn the hole before the first held record into a gap."""
        head = held[0]
        nearest = min(e.offset for e in held if not (e.flags ^ head.flags) & _SENT)
        yield from self._stream(head).skip_to(nearest, head.time_ns)
        yield from self._advance(held)

    def _stream(self, event: Data) -> Stream:
        return self.sent if event.flags & _SENT else self.received

    def __repr__(self) -> str:
        role = "server" if self.flags & Flag.SERVER else "client" if self.flags & Flag.CLIENT else "unknown"
        return f"<Connection {role} received={self.received.position} sent={self.sent.position}>"
