"""What is kept about a connection of which TLS is one half: the plain text, or the socket with the ciphertext."""

from __future__ import annotations

import enum

from otelbpf.connections.connection import Connection
from otelbpf.exchanges.exchange import Exchange
from otelbpf.tls.handshake import Handshake
from otelbpf.tls.spoken import Spoken


class Evidence(enum.StrEnum):
    """How it is known which socket carries the plain text; otelbpf.tls.evidence of its spans."""

    NONE = "none"
    """It is not: the span tells no peer."""
    NESTED_CALL = "nested_call"
    """A call on the socket ran within a call of the TLS library, on the same thread."""
    RECORD_LENGTHS = "record_lengths"
    """Plain text and TLS records had the same lengths, one behind the other on the same thread, more than once."""


class PlainEnd:
    """Plain text, as an application and its TLS library handed it to each other."""

    __slots__ = (
        "begun",
        "carrier",
        "error",
        "evidence",
        "filled",
        "handshake",
        "orphaned_ns",
        "over",
        "pid",
        "settled",
        "since_ns",
        "waiting",
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.filled = False
        """The last call that read had no room for more: the next one may go on with the same record."""
        self.begun = [0, 0]
        """Stream offsets of the call that is told, received and sent."""
        self.carrier: Connection | None = None
        """The socket, as long as it is open."""
        self.evidence = Evidence.NONE
        self.handshake: Handshake | None = None
        """That of the socket, where it is this session's."""
        self.error = ""
        """What the socket ended with."""
        self.orphaned_ns = 0
        """When the socket ended; 0 before."""
        self.over = False
        """The session has ended; only `waiting` is left."""
        self.settled = False
        """Its spans need not wait: what they will say of the connection is known."""
        self.waiting: list[Exchange] = []
        """Exchanges that are over but cannot be told yet."""
        self.since_ns = 0
        """When the first of them came."""


class CipherEnd:
    """A socket with ciphertext."""

    __slots__ = ("handshake", "pieces", "plains", "readable", "spoken")

    def __init__(self) -> None:
        self.handshake = Handshake()
        self.plains: list[Connection] = []
        """The plain text that is known to go over it, as long as there is any: of one session, but where a process has
        forked, and where a session goes over another one (a proxy that is spoken to by https)."""
        self.readable = False
        """Plain text was found to go over it."""
        self.pieces = 0
        """Records seen of it."""
        self.spoken = Spoken()
