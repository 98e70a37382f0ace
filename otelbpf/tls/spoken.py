"""Whether an application spoke over a connection of which only ciphertext is seen.

TLS 1.3 hides handshakes, alerts and data alike in records of one type. A client that shows no certificate sends a
Finished first, and then nothing that is no data but alerts and updates of its key, all of known lengths (RFC 8446).
What a server sends may be anything: certificates, tickets. One that speaks without being asked is taken for silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_ADDED: Final = 1 + 16
"""The byte that tells a record's type, and the tag."""
_FINISHED: Final = (4 + 32 + _ADDED, 4 + 48 + _ADDED)
"""By SHA-256 and SHA-384."""
_ALERT: Final = 2 + _ADDED
_KEY_UPDATE: Final = 4 + 1 + _ADDED


_RECORD: Final = 5
_OF_1_2: Final = tuple((_RECORD + 2 + added, _RECORD + 16 + added) for added in (16, 24))
"""An alert and a Finished of TLS 1.2 as they lie in the stream, without and with the nonce that AES-GCM adds."""
_WITHOUT_TYPE: Final = frozenset(
    (_RECORD + _ALERT, _RECORD + _KEY_UPDATE, *(length for both in _OF_1_2 for length in (*both, sum(both))))
)
"""What may be records of which not even the type is seen, and no data among them; a Finished and an alert may be told
as one."""


class Spoken:
    """Of one connection."""

    __slots__ = ("_finished", "yes")

    def __init__(self) -> None:
        self.yes = False
        """More than a handshake and an end went over it."""
        self._finished = False

    def take(self, version: str, by_client: bool, lengths: Sequence[int]) -> None:
        """The next encrypted records of one side, and the version of TLS; it is empty where the handshake was not seen,
        which then is over."""
        if version and version != "1.3":
            self.yes |= bool(lengths)
        elif by_client or not version:
            for length in lengths:
                if version and length in _FINISHED and not self._finished:
                    self._finished = True
                elif length not in (_ALERT, _KEY_UPDATE):
                    self.yes = True

    def take_unseen(self, by_client: bool, length: int) -> None:
        """So many bytes that the kernel encrypted, the last part of a handshake or later."""
        if by_client and length not in _WITHOUT_TYPE:
            self.yes = True
