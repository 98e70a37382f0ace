"""What is done when the bytes that frame a message were deliberately not copied: its end is inferred, or not at all.

Two signs count, both only at the edges of what one system call wrote or read:

- a last chunk, `CRLF 0 CRLF CRLF`, stands at the very end (the tail of a cut call is copied for this);
- a first line stands at the very beginning.

Whether a sign may be believed depends on the turn of the conversation, which `Http1` knows.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.base import Gap, ProtocolError, Side
from otelbpf.protocols.detect import Verdict, has_known_method, looks_like_request, looks_like_response

LONGEST_CANDIDATE: Final = 8192
"""Bytes that may wait to become a first line."""

_LAST_CHUNK: Final = b"0\r\n\r\n"
_LINE_AND_LAST_CHUNK: Final = b"\r\n" + _LAST_CHUNK


class Drift:
    """One side adrift: its current message goes on for an unknown length."""

    __slots__ = ("_chunked", "_looks", "_seen", "_side", "candidate")

    def __init__(self, side: Side, *, chunked: bool) -> None:
        """`chunked`: the message is known to end with a last chunk."""
        self._side = side
        self._looks = looks_like_request if side is Side.CLIENT else looks_like_response
        self._chunked = chunked
        self._seen = b""  # the newest bytes, as far back as they are known without a gap
        self.candidate = b""
        """Bytes that could be the beginning of a first line, and are not counted as body until they are not."""

    def begins(self, data: bytes) -> Verdict:
        """Whether the next message begins with the candidate and `data`; a candidate that turns out to be none is
        passed over, and `data` looked at anew. ProtocolError: it cannot be told with which of them."""
        verdict = self._looks(self.candidate + data)
        if self.candidate and verdict is Verdict.NO:
            self._pass_over()
            verdict = self._looks(data)
        if self.candidate and verdict is Verdict.YES and self._is_doubtful(data):
            raise ProtocolError("a request, or the end of a body in front of one")
        if verdict is Verdict.MORE:
            if len(self.candidate) + len(data) > LONGEST_CANDIDATE:
                self._pass_over()
                return Verdict.NO
            self.candidate += data
        return verdict

    def _is_doubtful(self, data: bytes) -> bool:
        """The end of a body and a request line behind it make another request line: any word is a method."""
        return self._side is Side.CLIENT and not has_known_method(self.candidate + data)

    def ends_with(self, data: bytes) -> bool:
        """Take bytes of the message; True if they end it."""
        return self._take(len(data), data)

    def ends_in(self, gap: Gap) -> bool:
        """Take unseen bytes of the message; True if they end it."""
        return self._take(gap.size, gap.tail)

    def _pass_over(self) -> None:
        self._take(len(self.candidate), self.candidate)
        self.candidate = b""

    def _take(self, size: int, known: bytes) -> bool:
        known = known[-len(_LINE_AND_LAST_CHUNK) :]
        self._seen = (self._seen + known if size <= len(known) else known)[-len(_LINE_AND_LAST_CHUNK) :]
        if not self._chunked:
            return False
        # A call that wrote nothing but the last chunk is one even where what came before it was not seen.
        return self._seen == _LINE_AND_LAST_CHUNK or (size == len(_LAST_CHUNK) and self._seen == _LAST_CHUNK)
