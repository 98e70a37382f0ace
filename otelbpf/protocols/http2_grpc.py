"""Length-prefixed messages of gRPC within the content of a stream, counted by their prefixes.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: a message is one byte of flags, four of length, and the
bytes.
"""

from __future__ import annotations

from typing import Final

_PREFIX: Final = 5
_COMPRESSED: Final = 0x01
_TRAILERS: Final = 0x80  # gRPC-Web sends its trailers as if they were one more message


class Parts:
    """Counts; from the first prefix that is missing on it knows nothing."""

    __slots__ = ("_left", "_prefix", "count")

    def __init__(self) -> None:
        self.count = 0
        """Prefixes so far; -1 where one was not seen, or it is no gRPC."""
        self._left = 0  # bytes of the running message
        self._prefix = b""  # what there is of the next prefix

    def feed(self, data: bytes, at: int, end: int) -> None:
        """The next bytes of the content are those from `at` to `end`."""
        if not self._left and not self._prefix and end - at >= _PREFIX and data[at] <= _COMPRESSED and self.count >= 0:
            size = int.from_bytes(data[at + 1 : at + _PREFIX])
            if at + _PREFIX + size == end:  # one message, whole: nearly all are
                self.count += 1
                return
        while at < end and self.count >= 0:
            if self._left:
                taken = min(self._left, end - at)
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
            if prefix[0] <= _COMPRESSED:
                self.count += 1
            elif not prefix[0] & _TRAILERS:
                self.count = -1

    def skip(self, count: int) -> None:
        """So many bytes of the content were not seen."""
        if count > self._left:
            self.count = -1
        else:
            self._left -= count
