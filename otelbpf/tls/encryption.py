"""Brings plain text and ciphertext together: which socket carries which TLS session, and what that means for both.

A session's plain text is a connection like any other, whose address is its socket's. Spans wait until the socket is
known, at most WAIT_NS: an exchange may be over before the last proof comes. The ciphertext is looked at only until it
has said what it says in the clear and found its plain text; then the source is asked to leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.events.encode import NO_ENDPOINTS
from otelbpf.events.traffic import Data
from otelbpf.events.types import Tls
from otelbpf.events.wire import Flag, TlsEvent, Unseen
from otelbpf.exchanges.exchange import Exchange
from otelbpf.protocols import detect
from otelbpf.protocols.http2_seek import begins_with_frames
from otelbpf.telemetry.ledger import Ledger, Lost
from otelbpf.tls.carriers import Carriers, overheads
from otelbpf.tls.ends import CipherEnd, Evidence, PlainEnd
from otelbpf.tls.handshake import application_lengths

WAIT_NS: Final = 1_000_000_000
"""How long an exchange waits for what is not known of its connection, and plain text for its end once its socket is
closed."""
MAX_WAITING: Final = 64
"""Exchanges of one connection that may wait."""
MAX_PIECES: Final = 96
"""Records of ciphertext that are looked at for the plain text they carry."""
_SENT: Final = int(Flag.SENT)
_CONTINUED: Final = int(Flag.CONTINUED)
_UNFINISHED: Final = int(Flag.UNFINISHED)
_FILLED: Final = int(Flag.FILLED)
_ROLE: Final = int(Flag.CLIENT | Flag.SERVER)
_CLIENT: Final = int(Flag.CLIENT)
_KERNEL_TLS: Final = int(Unseen.KERNEL_TLS)
_SERVER: Final = int(Flag.SERVER)
_NO: Final = detect.Verdict.NO
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0"

Tell = Callable[[Connection, Sequence[Exchange]], None]


class Encryption:
    """The connections with TLS of one pipeline."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        mute: Callable[[bytes], None],
        tell: Tell,
        bound: Callable[[Connection, Connection], Connection | None],
        forget: Callable[[Connection], None],
        unread: Callable[[int], None],
    ) -> None:
        """`tell` takes exchanges whose time has come, `forget` a connection that was over before them,
        `unread` the process of a socket whose plain text is not to be had. `bound` is told
        that plain text goes over a socket, and names the client's socket where this is its server and both are on this
        host."""
        self._ledger = ledger
        self._mute = mute
        self._tell = tell
        self._bound = bound
        self._forget = forget
        self._unread = unread
        self.addressed_only = False
        """Exchanges of an unknown socket are not wanted: it cannot be said whether it is among those asked for."""
        self._carriers = Carriers()
        self._peers: dict[bytes, Connection] = {}
        """By plain text: the socket at the other end, on this host."""
        self._unsettled: dict[bytes, Connection] = {}
        self._orphans: dict[bytes, Connection] = {}

    # -- what the source tells -------------------------------------------------------------------------------------

    def begin(self, connection: Connection, event: Data | Tls) -> None:
        """The first that is known of plain text. Where its socket is not known, it tells who is the client."""
        connection.tls = PlainEnd(event.pid)
        connection.endpoints = NO_ENDPOINTS  # what the record says is believed when `bind` is asked
        if isinstance(event, Data) and not event.flags & _ROLE:
            if connection.joined and begins_with_frames(event.data):
                return  # their header blocks will tell (see exchanges.signs)
            asks = event.data.startswith(_HTTP2_PREFACE) or detect.looks_like_request(event.data) is not _NO
            connection.flags |= _CLIENT if asks == bool(event.flags & _SENT) else _SERVER

    def encrypt(self, connection: Connection, sent: bool, data: bytes) -> None:
        """A socket turns out to carry TLS; `data` is what showed it."""
        if connection.tls is None:
            end = connection.tls = CipherEnd()
            if connection.joined:
                end.handshake.give_up()
            else:
                end.handshake.take(sent, data)
            self._listen(connection, end, sent, application_lengths(data))

    def note(self, connection: Connection, event: Data) -> None:
        """More of it came."""
        end = connection.tls
        if isinstance(end, PlainEnd):
            if end.evidence is Evidence.NONE:
                self._note_plain(connection, end, event)
        elif isinstance(end, CipherEnd) and not connection.muted:
            self._note_cipher(connection, end, event)

    def bind(self, connection: Connection, event: Tls, carrier: Connection | None, *, tunnelled: bool) -> None:
        """The source has proved which socket it is; `carrier` where that is known here too. `tunnelled`: it spoke in
        the clear before."""
        if event.event is not TlsEvent.BOUND:
            return
        connection.endpoints = event.endpoints
        connection.flags = connection.flags & ~_ROLE | event.flags & _ROLE
        if carrier is not None:
            self.encrypt(carrier, sent=False, data=b"")
        self._join(connection, carrier, Evidence.NESTED_CALL, tunnelled=tunnelled)

    # -- what the pipeline asks ------------------------------------------------------------------------------------

    def pass_on(self, connection: Connection, exchanges: Sequence[Exchange], now_ns: int) -> Sequence[Exchange]:
        """Those of a connection's exchanges that can be told now."""
        end = connection.tls
        if not isinstance(end, PlainEnd) or end.settled:
            return exchanges
        end.waiting += exchanges
        if self._is_settled(connection, end) or len(end.waiting) > MAX_WAITING:
            return self._release(connection, end)
        if not end.since_ns:
            end.since_ns = now_ns
            self._unsettled[connection.key] = connection
        return ()

    def due(self, now_ns: int) -> list[Connection]:
        """Tell what has waited long enough; plain text that will not be told of any more, for its socket is gone."""
        for connection in list(self._unsettled.values()):
            end = connection.tls
            assert isinstance(end, PlainEnd)
            if not self._is_settled(connection, end):
                if now_ns - end.since_ns <= WAIT_NS:
                    continue
                # Once is enough where the socket is known: the other end does not tell of itself.
                end.settled = end.evidence is not Evidence.NONE
            self._tell(connection, self._release(connection, end))
            if end.over:
                self._peers.pop(connection.key, None)
                self._forget(connection)
        over = []
        for connection in list(self._orphans.values()):
            end = connection.tls
            if isinstance(end, PlainEnd) and now_ns - end.orphaned_ns > WAIT_NS:
                over.append(connection)
        return over

    def socket_over(self, carrier: Connection, error: str, now_ns: int) -> None:
        """A socket with ciphertext has ended. Its application may still take what the library holds."""
        end = carrier.tls
        if not isinstance(end, CipherEnd):
            return
        self._carriers.forget(carrier)
        plains, end.plains = end.plains, []
        if not end.readable:
            self._ledger.connections["tls_not_read" if end.spoken.yes else "tls_not_used"] += 1
            if end.spoken.yes:
                self._unread(carrier.sent.pid or carrier.received.pid)
        for plain in plains:
            assert isinstance(plain.tls, PlainEnd)
            plain.tls.error = error
            plain.tls.orphaned_ns = now_ns
            plain.tls.carrier = None
            plain.closing_ns, plain.touched_ns = plain.closing_ns or carrier.closing_ns, now_ns
            if carrier.received.end >= 0:
                plain.received.end = plain.received.position
            if carrier.sent.end >= 0:
                plain.sent.end = plain.sent.position
            self._orphans[plain.key] = plain

    def plain_over(self, connection: Connection, *, last: bool = False) -> bool:
        """Plain text has ended; whether exchanges still wait, until `due` tells them. After the `last` call none do."""
        end = connection.tls
        if not isinstance(end, PlainEnd):
            return False
        if end.evidence is Evidence.NONE:
            self._ledger.connections["tls_unattributed"] += 1
        self._carriers.forget(connection)
        self._leave(connection, end)
        if end.waiting and not last and end.evidence is not Evidence.NONE and not self._is_settled(connection, end):
            # The other end may still prove that it can be read.
            end.over = True
            return True
        if end.waiting:
            self._tell(connection, self._release(connection, end))
        self._peers.pop(connection.key, None)
        return False

    def finish(self) -> None:
        """The source has ended: nothing will become known any more."""
        for connection in list(self._unsettled.values()):
            end = connection.tls
            assert isinstance(end, PlainEnd)
            self._tell(connection, self._release(connection, end))

    # -- within ----------------------------------------------------------------------------------------------------

    def _note_plain(self, connection: Connection, end: PlainEnd, event: Data) -> None:
        """What counts is how much a call moved, in however many pieces it is told; of a record that is read in parts,
        into a buffer that has no room for it, all of them together."""
        sent = bool(event.flags & _SENT)
        if not event.flags & _CONTINUED and (sent or not end.filled):
            end.begun[sent] = event.offset
        if event.flags & _UNFINISHED:
            return
        if not sent:
            end.filled = bool(event.flags & _FILLED)
            if end.filled:
                return
        length = event.offset + event.length - end.begun[sent]
        if sent:
            self._carriers.wrote(event.pid, event.tid, connection, length)
            return
        carrier = self._carriers.read(event.pid, event.tid, connection, length)
        if carrier is not None:
            self._join(connection, carrier, Evidence.RECORD_LENGTHS)

    def _note_cipher(self, connection: Connection, end: CipherEnd, event: Data) -> None:
        sent = bool(event.flags & _SENT)
        handshake = end.handshake
        if not handshake.over:
            handshake.take(sent, event.data)
        if end.plains:
            if handshake.over:
                self._leave_out(connection)
            return
        if event.flags >> 8 == _KERNEL_TLS:
            end.spoken.take_unseen(sent is bool(connection.flags & _CLIENT), event.length)
            return
        end.pieces += 1
        if end.pieces > MAX_PIECES:
            end.spoken.yes = True
            self._leave_out(connection)
            return
        records = application_lengths(event.data)
        if not records:
            return
        self._listen(connection, end, sent, records)
        added = overheads(handshake.negotiated.version, handshake.negotiated.cipher)
        if not sent:
            self._carriers.received(event.pid, event.tid, connection, records, added)
            return
        plain = self._carriers.sent(event.pid, event.tid, connection, records, added)
        if plain is not None:
            self._join(plain, connection, Evidence.RECORD_LENGTHS)

    def _listen(self, connection: Connection, end: CipherEnd, sent: bool, records: Sequence[int]) -> None:
        by_client = sent is bool(connection.flags & _CLIENT)
        end.spoken.take(end.handshake.negotiated.version, by_client, records)

    def _join(
        self, plain: Connection, carrier: Connection | None, evidence: Evidence, *, tunnelled: bool = False
    ) -> None:
        end = plain.tls
        if not isinstance(end, PlainEnd):
            return
        end.evidence = evidence
        self._carriers.forget(plain)
        self._forget(plain)  # what was told of it so far was told without its addresses
        if carrier is None or not isinstance(carrier.tls, CipherEnd):
            return
        cipher = carrier.tls
        self._carriers.forget(carrier)
        if end.carrier is not carrier:
            self._leave(plain, end)
            # A process that speaks over two sessions at once has one within the other, whose handshake is not seen.
            within = any(isinstance(other.tls, PlainEnd) and other.tls.pid == end.pid for other in cipher.plains)
            end.carrier = carrier
            end.handshake = None if within else cipher.handshake
            cipher.plains.append(plain)
            # Only the first that goes over a socket has its end for its own: offsets of others begin elsewhere.
            tunnelled |= cipher.readable
            cipher.readable = True
        plain.endpoints = carrier.endpoints
        peer = None if tunnelled else self._bound(plain, carrier)
        if peer is not None:
            self._peers[plain.key] = peer
        if cipher.handshake.over:
            self._leave_out(carrier)

    def _leave(self, plain: Connection, end: PlainEnd) -> None:
        """It does not go over that socket any more, or that one has ended."""
        self._orphans.pop(plain.key, None)
        carrier, end.carrier = end.carrier, None
        if carrier is not None and isinstance(carrier.tls, CipherEnd):
            carrier.tls.plains.remove(plain)

    def leaves_out(self, connection: Connection) -> bool:
        """Addresses were asked for, and that of this plain text is not known."""
        end = connection.tls
        return self.addressed_only and isinstance(end, PlainEnd) and end.evidence is Evidence.NONE

    def _leave_out(self, carrier: Connection) -> None:
        if not carrier.muted:
            carrier.muted = True
            self._mute(carrier.key)

    def _is_settled(self, connection: Connection, end: PlainEnd) -> bool:
        """The socket is known; and of the other end, if it is on this host, that its spans will come."""
        if end.evidence is Evidence.NONE:
            return False
        peer = self._peers.get(connection.key)
        if peer is None or (isinstance(peer.tls, CipherEnd) and peer.tls.readable):
            end.settled = True
        return end.settled

    def _release(self, connection: Connection, end: PlainEnd) -> Sequence[Exchange]:
        waiting, end.waiting, end.since_ns = end.waiting, [], 0
        self._unsettled.pop(connection.key, None)
        if self.leaves_out(connection):
            self._ledger.spans_lost[Lost.FILTERED] += len(waiting)
            return ()
        return waiting
