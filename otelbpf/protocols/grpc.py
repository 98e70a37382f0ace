"""What gRPC puts into the content of a message of HTTP: length-prefixed messages, and in gRPC-Web the trailers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: a message is one byte of flags, four of length, and the
bytes. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md: trailers come as one more, with a flag of their
own, written as HTTP/1 writes fields; with application/grpc-web-text, everything is in base64.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from otelbpf.protocols.base import Message
from otelbpf.protocols.text import text

GRPC: Final = "application/grpc"
WEB: Final = "application/grpc-web"
_WEB_TEXT: Final = "application/grpc-web-text"
"""What content types begin with."""

_PREFIX: Final = 5
_COMPRESSED: Final = 0x01
_TRAILERS: Final = 0x80
_MOST_KEPT: Final = 8192
"""Longer trailers are counted, not read."""

_NONE: Final[dict[str, str]] = {}
_BASE64: Final = re.compile(rb"[^=]+={0,2}")  # what is flushed early is padded on its own


class Parts:
    """Counts messages, and keeps trailers; from the first prefix that is missing on it knows nothing."""

    __slots__ = ("_kept", "_left", "_prefix", "_web", "count")

    def __init__(self, *, web: bool) -> None:
        """`web`: trailers may come as a message."""
        self._web = web
        self.count = 0
        """Messages so far; -1 where a prefix was not seen, or it is no gRPC."""
        self._left = 0  # bytes of the running message
        self._prefix = b""  # what there is of the next prefix
        self._kept: bytearray | None = None  # of trailers

    def feed(self, data: bytes, at: int, end: int) -> None:
        """The next bytes of the content are those from `at` to `end`."""
        starts = not self._left and not self._prefix and self._kept is None and self.count >= 0
        if starts and end - at >= _PREFIX and data[at] <= _COMPRESSED:
            size = int.from_bytes(data[at + 1 : at + _PREFIX])
            if at + _PREFIX + size == end:  # one message, whole: nearly all are
                self.count += 1
                return
        while at < end and self.count >= 0:
            if self._left:
                taken = min(self._left, end - at)
                if self._kept is not None:
                    self._kept += data[at : at + taken]
                self._left -= taken
                at += taken
                continue
            taken = min(_PREFIX - len(self._prefix), end - at)
            prefix = self._prefix + data[at : at + taken]
            at += taken
            if len(prefix) < _PREFIX:
                self._prefix = prefix
                return
            self._prefix = b""
            self._left = int.from_bytes(prefix[1:])
            self._begin(prefix[0])

    def _begin(self, flags: int) -> None:
        if self._kept is not None:  # nothing comes behind trailers
            self.count = -1
        elif flags <= _COMPRESSED:
            self.count += 1
        elif flags == _TRAILERS and self._web and self._left <= _MOST_KEPT:
            self._kept = bytearray()
        elif not flags & _TRAILERS:
            self.count = -1

    def skip(self, count: int) -> None:
        """So many bytes of the content were not seen."""
        if count > self._left:
            self.count = -1
        else:
            self._left -= count
        if count:
            self._kept = None

    def tell(self, message: Message) -> None:
        """The message has ended whose content this is, or will be told no more of."""
        message.parts = self.count
        if not message.trailers:
            message.trailers = self.trailers()

    def trailers(self) -> dict[str, str]:
        """The fields of gRPC-Web's trailers, by their names in lower case; none where they did not come whole."""
        if not self._kept or self._left or self.count < 0:
            return _NONE
        found: dict[str, str] = {}
        for line in bytes(self._kept).split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                found[text(name).lower()] = text(value.strip())
        return found


class TextParts(Parts):
    """The same in base64."""

    __slots__ = ("_text",)

    def __init__(self) -> None:
        super().__init__(web=True)
        self._text = b""  # the beginning of a group of four

    def feed(self, data: bytes, at: int, end: int) -> None:
        """See `Parts`."""
        come = self._text + data[at:end]
        whole = len(come) & ~3
        self._text = come[whole:]
        try:
            for piece in _BASE64.findall(come[:whole]):
                plain = binascii.a2b_base64(piece, strict_mode=True)
                super().feed(plain, 0, len(plain))
        except binascii.Error:
            self.count = -1

    def skip(self, count: int) -> None:
        """See `Parts`. Groups are not found again."""
        super().skip(count)
        self.count = -1


def parts_of(content_type: str) -> Parts:
    """What reads the content of a message of this type, one of gRPC's."""
    return TextParts() if content_type.startswith(_WEB_TEXT) else Parts(web=content_type.startswith(WEB))
