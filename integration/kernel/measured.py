"""Work of which the worker itself measures what the probes are to tell: by its own clock, or by asking the kernel in
another way (TCP_INFO). No more than loopback is needed: a filter on a socket throws its segments away."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from integration.kernel.workload import REQUEST, Ports, connection, listen, ports, read_exactly

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RTT, _TOTAL_RETRANS, _RWND_LIMITED, _SNDBUF_LIMITED = 68, 100, 176, 184
"""Offsets in struct tcp_info (linux/tcp.h)."""
_TCP_INFO_BYTES = 192
_HOST_UNREACHABLE = struct.pack("!BBHI", 3, 1, 0, 0)


@contextmanager
def deaf(end: socket.socket) -> Iterator[None]:
    """The socket throws away whatever arrives."""
    code = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0))  # classic BPF: return 0 bytes
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(code)))
    try:
        yield
    finally:
        end.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def slow_connect() -> tuple[Ports, float]:
    """The first SYN is thrown away, the second not; how long connecting took."""
    with listen() as listener, socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        with deaf(listener):
            began = time.monotonic()
            client.connect_ex(listener.getsockname())
            time.sleep(0.5)  # the next one comes after a second (RFC 6298 section 5.7)
        client.setblocking(True)
        server, _ = listener.accept()
        with contextlib.suppress(OSError):
            client.connect(listener.getsockname())
        took = time.monotonic() - began
        with server:
            found = ports(client, server)
            client.close()
            server.recv(1)
        return found, took


def unanswered() -> tuple[Ports, int, float]:
    """A connection to a host that answers nothing; how many SYNs went there, and how long it took to give up."""
    with listen() as listener, socket.socket() as client, _sniffer() as sniffer, deaf(listener):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        client.bind(("127.0.0.1", 0))
        found = ports(client, listener)
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            client.connect(listener.getsockname())
            raise AssertionError("somebody answered")
        took = time.monotonic() - began
        sniffer.setblocking(False)
        syns = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                syns += sniffer.recv(4096)[20:24] == struct.pack("!HH", *found)
        return found, syns, took


def unreachable() -> Ports:
    """Some router on the way says that the host cannot be reached (RFC 792)."""
    with (
        listen() as listener,
        socket.socket() as client,
        _sniffer() as sniffer,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as router,
        deaf(listener),
    ):
        client.bind(("127.0.0.1", 0))
        found = ports(client, listener)
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        sniffer.settimeout(5)
        while (syn := sniffer.recv(4096))[20:24] != struct.pack("!HH", *found):
            pass
        message = _HOST_UNREACHABLE + syn[:28]
        router.sendto(message[:2] + _checksum(message) + message[4:], ("127.0.0.1", 0))
        client.setblocking(True)
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.send(b"x")
        return found


def sent_again(silence: float) -> tuple[Ports, int, int]:
    """Data that is thrown away until it is sent again; how often segments were, and the smoothed round-trip time in
    microseconds, as TCP_INFO has them when the client resets."""
    with connection() as (client, server):
        found = ports(client, server)
        with deaf(server):
            client.send(REQUEST)
            time.sleep(silence)
        read_exactly(server, len(REQUEST))
        server.send(REQUEST)
        read_exactly(client, len(REQUEST))
        told = tcp_info(client)
        _reset(client)
        return found, _u32(told, _TOTAL_RETRANS), _u32(told, _RTT)


def stalled(seconds: float) -> tuple[Ports, int, int]:
    """The server does not read for a while and the client cannot send on; how long sending was limited by the receive
    window and by the send buffer, in microseconds, as TCP_INFO has it."""
    size = 4 << 20
    with connection() as (client, server):
        found = ports(client, server)
        client.setblocking(False)
        sent = client.send(bytes(size))
        time.sleep(seconds)
        read_exactly(server, sent)
        client.setblocking(True)
        client.send(b"x")
        read_exactly(server, 1)
        server.send(b"x")
        read_exactly(client, 1)
        told = tcp_info(client)
        _reset(client)
        return found, _u64(told, _RWND_LIMITED), _u64(told, _SNDBUF_LIMITED)


Bracket = tuple[float, float]
"""The least and the most that something can have taken, in seconds."""


def late_reads(seconds: float) -> tuple[Ports, list[Bracket]]:
    """The server comes to read when a request has lain there for a while: first in one piece, then in two, then with a
    second half that came later."""
    brackets: list[Bracket] = []
    with connection() as (client, server):
        for first in (len(REQUEST), 5, 5):
            before = time.monotonic()
            client.send(REQUEST[:20] if brackets and len(brackets) > 1 else REQUEST)
            after = time.monotonic()
            time.sleep(seconds)
            if len(brackets) > 1:
                client.send(REQUEST[20:])
            began = time.monotonic()
            read_exactly(server, first)
            brackets.append((began - after, time.monotonic() - before))
            if first < len(REQUEST):
                read_exactly(server, len(REQUEST) - first)
            server.send(REQUEST)
            read_exactly(client, len(REQUEST))
        return ports(client, server), brackets


def waiting_read() -> tuple[Ports, Bracket]:
    """The server waits in its call before the request comes."""
    with connection() as (client, server):
        times: list[float] = []

        def send() -> None:
            time.sleep(0.3)
            times.append(time.monotonic())
            client.send(REQUEST)

        thread = threading.Thread(target=send)
        thread.start()
        read_exactly(server, len(REQUEST))
        ended = time.monotonic()
        thread.join()
        return ports(client, server), (0.0, ended - times[0])


_waiting = contextlib.ExitStack()


def fill_queue(backlog: int, more: int) -> tuple[int, int]:
    """Nobody accepts; the queue is full and `more` connections find no place. The port, and how many wait."""
    listener = _waiting.enter_context(listen(backlog=backlog))
    with contextlib.ExitStack() as turned_away:
        for number in range(backlog + 1 + more):
            client = (_waiting if number <= backlog else turned_away).enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.3)  # after a second their SYNs would be sent again
    return listener.getsockname()[1], backlog + 1


def leave_queue() -> None:
    """Everybody goes, the listener too."""
    _waiting.close()


def only_closed() -> Ports:
    """Accepted and closed, without a byte."""
    with connection() as (client, server):
        return ports(client, server)


def tcp_info(end: socket.socket) -> bytes:
    """What the kernel says of a connection (tcp(7))."""
    return end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)


def _sniffer() -> socket.socket:
    """Is given every segment that arrives here, whatever becomes of it."""
    sniffer = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    return sniffer


def _u32(told: bytes, offset: int) -> int:
    return int(struct.unpack_from("=I", told, offset)[0])


def _u64(told: bytes, offset: int) -> int:
    return int(struct.unpack_from("=Q", told, offset)[0])


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _checksum(message: bytes) -> bytes:
    """RFC 1071"""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def asked_names(message: bytes) -> list[bytes]:
    """A resolver's work over IPv4 and IPv6, as the C library does it: what its sockets read. Another sends as well,
    whom the kernel keeps out."""
    read = []
    for family, address in ((socket.AF_INET, "127.0.0.153"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as resolver:
            server.bind((address, 53))
            resolver.connect((address, 53))
            with socket.socket(family, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"forged " + message, resolver.getsockname()[:2])
            for padding in (0, 1023 - len(message), 1024 - len(message)):
                resolver.send(b"question")
                _, asker = server.recvfrom(100)
                server.sendto(message + bytes(padding), asker)
                read.append(resolver.recv(2048))
    return read
