"""One TCP socket's life as the records tell it: who, with whom, in which role, and its two streams."""

from __future__ import annotations

from otelbpf.connections.stream import Stream
from otelbpf.events.wire import Flag
from otelbpf.telemetry.ledger import Ledger


class Connection:
    """A traced socket. Two processes of one host that talk to each other have one each."""

    __slots__ = (
        "attachment",
        "endpoints",
        "first_sequence",
        "flags",
        "key",
        "muted",
        "opened_ns",
        "received",
        "sent",
        "touched_ns",
    )

    def __init__(self, key: bytes, endpoints: bytes, flags: int, opened_ns: int, ledger: Ledger) -> None:
        self.key = key
        self.endpoints = endpoints
        """Raw struct endpoints; its source port is known once the socket is connected."""
        self.flags = flags
        self.first_sequence: tuple[int, int] | None = None
        """TCP sequence numbers of the first byte sent and received, once established; crosswise at the other end."""
        self.opened_ns = opened_ns
        self.touched_ns = opened_ns
        """Time of the newest record."""
        self.received = Stream(ledger)
        self.sent = Stream(ledger)
        self.muted = False
        self.attachment: object = None
        """What the stage behind keeps about this connection; only that stage looks at it."""

    @property
    def joined(self) -> bool:
        """The socket was open before the probes were."""
        return bool(self.flags & Flag.JOINED)

    @property
    def waits(self) -> bool:
        """Records wait behind a hole in either direction."""
        return self.received.waits or self.sent.waits

    def __repr__(self) -> str:
        role = "server" if self.flags & Flag.SERVER else "client" if self.flags & Flag.CLIENT else "unknown"
        return f"<Connection {role} received={self.received.position} sent={self.sent.position}>"
