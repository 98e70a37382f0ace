"""HTTP/2 made by hand: frames, conversations in any cutting, and which of their bytes the probes are to copy."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Sequence

import msgspec

from integration.kernel.recorder import Piece
from integration.kernel.workload import Ports, connection, ports, read_exactly
from integration.test_calls import libc
from otelbpf.events.wire import Unseen

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION, ALTSVC = range(11)
PADDED = 8

CHUNK = 8192
FRAME_LIMIT = 16384
SMALL_DATA = 512


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 1) -> bytes:
    """RFC 9113 section 4.1"""
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def number(size: int, seed: int = 0) -> bytes:
    """So many bytes, no two stretches of which are alike."""
    return b"".join((seed << 20 | at).to_bytes(4, "big") for at in range(size // 4 + 1))[:size]


OPENING = PREFACE + frame(SETTINGS, number(18), stream=0) + frame(WINDOW, number(4), stream=0)
"""How a client begins."""
GREETING = frame(SETTINGS, number(12), stream=0)
"""How a server does."""


def copied(stream: bytes, begin: int = 0) -> set[int]:
    """The offsets of `stream` that are to be copied, when it is walked from a frame at `begin` (or the preface)."""
    at = begin + len(PREFACE) if stream[begin:].startswith(PREFACE) else begin
    found = set(range(begin, at))
    while at < len(stream):
        head = stream[at : at + 9]
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        wanted = min(size, FRAME_LIMIT)
        if (kind == DATA or kind > CONTINUATION) and size > SMALL_DATA:
            wanted = 6 if flags & PADDED else 5
        found.update(range(at, at + 9 + wanted))
        at += 9 + size
    return found


class Step(msgspec.Struct, frozen=True):
    """One end sends, the other reads it all."""

    client: bool
    vector: list[bytes]
    """The segments of one call."""
    reads: int = 0
    """Bytes taken by each call of the reader; 0: as they come, in one or several."""

    @property
    def data(self) -> bytes:
        return b"".join(self.vector)


def in_calls(data: bytes, size: int, *, client: bool, reads: int = 0) -> list[Step]:
    """`data` sent in calls of `size` bytes."""
    return [Step(client, [data[at : at + size]], reads) for at in range(0, len(data), size)]


def talk(steps: Sequence[Step]) -> Ports:
    """The steps one after the other, each by one writev, over a new connection."""
    with connection() as (client, server):
        play(steps, client, server)
        return ports(client, server)


def play(steps: Sequence[Step], client: socket.socket, server: socket.socket) -> None:
    """The steps over this connection."""
    for step in steps:
        sender, receiver = (client, server) if step.client else (server, client)
        reader = threading.Thread(target=_read, args=(receiver, len(step.data), step.reads))
        reader.start()
        assert os.writev(sender.fileno(), step.vector) == len(step.data)
        reader.join()


def _read(end: socket.socket, size: int, each: int) -> None:
    if not each:
        read_exactly(end, size)
    for at in range(0, size if each else 0, each or 1):
        read_exactly(end, min(each, size - at))


def with_sendfile(before: bytes, file: bytes, behind: bytes) -> Ports:
    """The server greets and sends `before`, then a file by sendfile, then `behind`."""
    with tempfile.TemporaryFile() as source, connection() as (client, server):
        play([Step(True, [OPENING]), Step(False, [GREETING]), Step(False, [before])], client, server)
        source.write(file)
        source.flush()
        reader = threading.Thread(target=read_exactly, args=(client, len(file)))
        reader.start()
        sent = 0
        while sent < len(file):
            sent += os.sendfile(server.fileno(), source.fileno(), sent, len(file) - sent)
        reader.join()
        play([Step(False, [behind])], client, server)
        return ports(client, server)


def with_bytes_thrown_away(before: bytes, thrown_away: int, behind: bytes) -> Ports:
    """The client begins and sends `before` and `behind`; of what is between them the server wants nothing."""
    with connection() as (client, server):
        client.sendall(OPENING + before)
        read_exactly(server, len(OPENING + before))
        client.sendall(bytes(thrown_away) + behind)
        buffer = ctypes.create_string_buffer(thrown_away)
        flags = socket.MSG_TRUNC | socket.MSG_WAITALL
        assert libc.recv(server.fileno(), buffer, thrown_away, flags) == thrown_away
        read_exactly(server, len(behind))
        return ports(client, server)


def assert_walk(pieces: Sequence[Piece], stream: bytes, begin: int = 0) -> None:
    """These records are the walk of `stream` from `begin` on: contiguous, every byte as it was sent, exactly those
    copied that are to be, and all others left out on purpose."""
    seen: set[int] = set()
    at = begin
    for piece in pieces:
        length = len(piece.data) if piece.length < 0 else piece.length
        assert piece.offset == at
        assert piece.data == stream[at : at + len(piece.data)]
        assert piece.tail == b""
        assert piece.unseen is (Unseen.NONE if piece.length < 0 else Unseen.BUDGET)
        seen.update(range(at, at + len(piece.data)))
        at += length
    assert at == len(stream)
    assert seen == copied(stream, begin)
