"""How it stands with the sockets that listen (struct listener of probes/include/waiting.h): a record for each that has
changed, made when somebody asks.

The probes see a queue when a connection is put into it. How deep it is now only the kernel's memory knows; so a program
is run there for each socket (BPF_PROG_TEST_RUN; of raw tracepoints since 5.10), which also starts the next interval.
Without that, what is told is how it stood when the newest connection came.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

import msgspec

from otelbpf.events.encode import encode_key, encode_listener
from otelbpf.sources import maps

LISTENER_FIELDS: Final = (
    ("endpoints", "40s"),
    ("epoch_ns", "Q"),
    ("pid", "I"),
    ("depth", "I"),
    ("deepest", "I"),
    ("deepest_told", "I"),
    ("limit", "I"),
    ("dropped", "I"),
)
LOOK: Final = "on_look"
"""The program that looks at one socket."""
_LISTENER: Final = struct.Struct("<" + "".join(code for _, code in LISTENER_FIELDS))
_PORT: Final = struct.Struct("<32xH")
_MAX_LOOKED_AT: Final = 512
"""A look takes three system calls."""


class _Seen(msgspec.Struct, frozen=True):
    """What was told of a socket, as `events.types.Listener` has it."""

    endpoints: bytes
    pid: int
    depth: int
    deepest: int
    limit: int
    dropped: int


class Queues:
    """The accept queues of the probes' table `listeners`."""

    def __init__(
        self,
        listeners: int,
        look: int,
        *,
        ports: Collection[int] = (),
        names_owners: bool = True,
        introduce: Callable[[int, int], Iterable[bytes]] = lambda _pid, _since_ns: (),
    ) -> None:
        """`look` is the program. Only sockets at `ports` are told, where some are given; whose they are is told unless
        the processes were chosen in a way that only the kernel can tell (`names_owners` False). `introduce` is given a
        process and since when it listens, and makes the records that tell who it is."""
        self._listeners = listeners
        self._look = look
        self._ports = frozenset(ports)
        self._names_owner = names_owners
        self._introduce = introduce
        self._told: dict[bytes, _Seen] = {}

    def look(self, now_ns: int) -> Iterator[bytes]:
        """A record for each socket that has changed since it was told; one that listens no more has an empty queue."""
        told, self._told = self._told, {}
        for socket in dict.fromkeys(maps.keys(self._listeners, 8, limit=_MAX_LOOKED_AT)):
            looked = maps.run(self._look, socket)
            value = maps.lookup(self._listeners, socket, _LISTENER.size)
            if value is None:
                continue
            endpoints, epoch_ns, pid, depth, _, deepest, limit, dropped = _LISTENER.unpack(value)
            if self._ports and _PORT.unpack_from(endpoints)[0] not in self._ports:
                continue
            key = encode_key(int.from_bytes(socket, "little"), epoch_ns)
            pid = pid if self._names_owner else 0
            seen = self._told[key] = _Seen(endpoints, pid, depth, deepest if looked else depth, limit, dropped)
            before = told.pop(key, None)
            if pid and (before is None or before.pid != pid):
                yield from self._introduce(pid, epoch_ns)
            if before != seen:
                yield _record(key, now_ns, seen)
        for key, seen in told.items():
            yield _record(key, now_ns, msgspec.structs.replace(seen, depth=0, deepest=0))


def _record(key: bytes, now_ns: int, seen: _Seen) -> bytes:
    return encode_listener(key=key, time_ns=now_ns, **msgspec.structs.asdict(seen))
