"""The event there are most of."""

from __future__ import annotations

from typing import Final

from otelbpf.events.wire import Unseen
from otelbpf.values import Value


class Data(Value):
    """Bytes one system call sent or received: `length` at stream offset `offset`, of which `data` was copied."""

    __match_args__ = (
        "key",
        "time_ns",
        "pid",
        "tid",
        "flags",
        "endpoints",
        "offset",
        "length",
        "data",
        "tail",
        "waited",
    )

    def __init__(
        self,
        key: bytes,
        time_ns: int,
        pid: int,
        tid: int,
        flags: int,
        endpoints: bytes,
        offset: int,
        length: int,
        data: bytes,
        tail: bytes,
        waited: int = 0,
    ) -> None:
        self.key: Final = key
        self.time_ns: Final = time_ns
        self.pid: Final = pid
        self.tid: Final = tid
        self.flags: Final = flags
        self.endpoints: Final = endpoints
        """Raw `struct endpoints` (40 bytes); the same for every record of a socket."""
        self.offset: Final = offset
        self.length: Final = length
        self.data: Final = data
        self.tail: Final = tail
        """The last bytes of the piece, where `data` is shorter than `length`; at most TAIL_BYTES."""
        self.waited: Final = waited
        """One more than the microseconds that the call's first byte had lain in the socket when it was read; negative
        where that is not known of all its bytes, 0 where it is known of none."""

    @property
    def unseen(self) -> Unseen:
        """Why `data` is shorter than `length`."""
        return Unseen(self.flags >> 8)
