"""What a connection speaks, by the bytes that its calls begin with.

A request of HTTP/1 is believed only where a system call's bytes begin with one, or go on with one whose first line was
cut; HTTP/2 where its client's preface stands, or, on a connection met midway, once both sides have begun a call's bytes
with frames. What comes before is not reported, and a connection whose turns begin with something else is given up.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from otelbpf.connections.piece import Piece
from otelbpf.exchanges.pairing import Pairing
from otelbpf.exchanges.signs import asking_side, from_frames_on, is_preface
from otelbpf.protocols import detect
from otelbpf.protocols.http2_seek import begins_with_frames

STRIKES: Final = 3
"""Turns of a conversation that may begin with something unknown before the connection is left alone."""
MAX_SUSPECTS: Final = 32
"""Pieces that may wait until both sides of a connection met midway have shown frames, or a server has refused what
was asked."""
_KEPT: Final = 16

_REFUSAL: Final = re.compile(rb"HTTP/1\.[01] [45]")
_TLS_HANDSHAKE: Final = b"\x16\x03"


class Heard(enum.Enum):
    """What there is to know after a piece."""

    NOTHING = "nothing"
    """Nothing more than before: it is the rest of something, or waits for what follows it."""
    REQUEST = "request"
    """A request of HTTP/1 begins."""
    PREFACE = "preface"
    """A client of HTTP/2 begins."""
    FRAMES = "frames"
    """Both sides speak HTTP/2, and did so before they were met."""
    REFUSED = "refused"
    """A client began with something unknown, and its server, which speaks HTTP/1, refuses it."""
    TLS = "tls"
    STRANGE = "strange"
    """A turn began with something unknown: whoever was in step is so no more."""
    UNKNOWN = "unknown"
    """That happened too often."""


class Finding:
    """What a listener makes of a piece, together with those that waited for it."""

    __slots__ = ("asked_by_sender", "head_lost", "heard", "pieces")

    def __init__(
        self,
        heard: Heard,
        pieces: tuple[Piece, ...] = (),
        *,
        head_lost: bool = False,
        asked_by_sender: bool | None = None,
    ) -> None:
        self.heard: Final = heard
        self.pieces: Final = pieces
        """What the protocol that was found begins with, in the order it was seen. Of a REQUEST or a PREFACE one piece,
        which begins before the one just heard where that completes it; of a REFUSED what was asked, as far as it is
        kept, and the answer."""
        self.head_lost: Final = head_lost
        """What had begun like a request goes on in a gap."""
        self.asked_by_sender: Final = asked_by_sender
        """FRAMES of a connection of which nobody knew who is the client: whether this end is."""


NOTHING: Final = Finding(Heard.NOTHING)
"""The finding that nearly every piece leads to."""


class Listener:
    """Hears one connection's pieces while nobody knows what it speaks. Of its pairing it reads who serves and whether
    it is in step, and changes nothing."""

    __slots__ = (
        "_head_limit",
        "_pairing",
        "_prefix",
        "_prefix_direction",
        "_stranger",
        "_strikes",
        "_watched",
        "last",
        "suspects",
    )

    def __init__(self, pairing: Pairing, *, head_limit: int) -> None:
        self._pairing = pairing
        self._head_limit = head_limit
        self.last: bool | None = None
        """The direction of the newest piece."""
        self._prefix = b""
        self._prefix_direction = False
        self._strikes = 0
        self._stranger: Piece | None = None  # what a client began a new connection with, and is not known
        self._watched = 0  # pieces since
        self.suspects: tuple[Piece, ...] = ()
        """Frames of one side, or what follows them: their times may still be asked for."""

    def hear(self, piece: Piece) -> Finding:
        """The next piece of either direction, perhaps a gap, which has put the pairing out of step."""
        if self.last is None and self._pairing.in_step and piece.sent is not self._pairing.serving:
            begin = detect.behind_preamble(piece.data)
            if begin and begin == len(piece.data):
                return NOTHING
            piece = Piece(piece.sent, piece.offset + begin, piece.data[begin:], piece.gap)
        if self._stranger is not None and (found := self._watch(self._stranger, piece)) is not NOTHING:
            return found
        found = self._hear(piece)
        if found.heard is Heard.REQUEST:
            self._stranger = None
        return found

    def _hear(self, piece: Piece) -> Finding:
        sent, data, offset = piece.sent, piece.data, piece.offset
        new_turn = self.last is not sent
        self.last = sent
        prefix = self._prefix if self._prefix_direction is sent else b""
        if piece.gap is not None:
            found = self._suspect(piece) if self.suspects else NOTHING
            if not prefix:
                return found
            # A first line longer than what is copied, or cut by a loss.
            self._prefix = b""
            return Finding(found.heard, found.pieces, head_lost=True)
        if prefix:
            data = prefix + data
            offset -= len(prefix)
        if is_preface(data):
            return Finding(Heard.PREFACE, (Piece(sent, offset, data),))
        if not prefix:
            if self.suspects or (not self._pairing.in_step and begins_with_frames(data)):
                return self._suspect(piece)
            if not new_turn and (sent is self._pairing.serving or detect.looks_like_request(data) is detect.Verdict.NO):
                return NOTHING  # the rest of an upload, or of a response: many calls, one turn
        self._prefix = b""
        if data.startswith(_TLS_HANDSHAKE) or (not self._pairing.in_step and detect.begins_tls_record(data)):
            return Finding(Heard.TLS)
        verdict = self._believe(data)
        if prefix and verdict is detect.Verdict.NO and not self._pairing.in_step:
            # The end of something that was not seen whole, and what follows it.
            data, offset = piece.data, piece.offset
            verdict = self._believe(data)
        if verdict is detect.Verdict.MORE and len(data) < self._head_limit:
            self._prefix, self._prefix_direction = data, sent
            return NOTHING
        if verdict is not detect.Verdict.YES:
            strange = detect.looks_like_request(data) is not detect.Verdict.YES
            return self._turn_away(sent, offset, data) if strange else NOTHING
        return Finding(Heard.REQUEST, (Piece(sent, offset, data),))

    @property
    def waits(self) -> bool:
        """The times of what was heard may still be asked for."""
        return bool(self.suspects) or self._stranger is not None

    def _watch(self, stranger: Piece, piece: Piece) -> Finding:
        """Whether a server refuses, with its first bytes, what its client began with."""
        self._watched += 1
        if piece.sent is stranger.sent and self._watched < MAX_SUSPECTS and (piece.gap is None or piece.gap.deliberate):
            return NOTHING
        self._stranger = None
        refused = piece.sent is not stranger.sent and _REFUSAL.match(piece.data) is not None
        if refused and detect.looks_like_response(piece.data) is detect.Verdict.YES:
            return Finding(Heard.REFUSED, (stranger, piece))
        return NOTHING

    def held(self, sent: bool) -> int:
        """How many of the last bytes of a direction wait to become a first line."""
        return len(self._prefix) if self._prefix_direction is sent else 0

    def strike(self) -> bool:
        """Count something that is not understood; whether it was once too often."""
        self._strikes += 1
        return self._strikes >= STRIKES

    def _believe(self, data: bytes) -> detect.Verdict:
        """Whether a request begins here. Out of step, its first bytes may be missing, or belong to something else."""
        verdict = detect.looks_like_request(data)
        if verdict is detect.Verdict.YES and not self._pairing.in_step and not detect.has_known_method(data):
            return detect.Verdict.NO
        return verdict

    def _turn_away(self, sent: bool, offset: int = 0, data: bytes = b"") -> Finding:
        """A turn began with something else. A response is none: its request may have come before the first sight."""
        if sent is self._pairing.serving and not self._pairing.in_step:
            return NOTHING
        if self._pairing.in_step and sent is not self._pairing.serving:
            self._stranger = Piece(sent, offset, data[:_KEPT])
        return Finding(Heard.UNKNOWN if self.strike() else Heard.STRANGE)

    def _suspect(self, piece: Piece) -> Finding:
        """It may be HTTP/2, met midway: believed once both sides have begun a call's bytes with frames."""
        if detect.looks_like_request(piece.data) is detect.Verdict.YES:
            self.suspects = ()
            return self.hear(piece)
        self.suspects += (piece,)
        pieces = from_frames_on(self.suspects)
        asks = asking_side(pieces) if self._pairing.guesses else None
        if not pieces or (asks is None and self._pairing.guesses):
            if len(self.suspects) < MAX_SUSPECTS:
                return NOTHING
            self.suspects = ()
            return self._turn_away(not self._pairing.serving)
        self.suspects = ()
        return Finding(Heard.FRAMES, tuple(pieces), asked_by_sender=asks)
