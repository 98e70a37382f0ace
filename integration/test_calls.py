"""Every system call that can move HTTP through a socket, on either side: the spans are the same."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import tempfile
from collections.abc import Callable

import pytest

from integration.harness.cases import Case, Played, register
from integration.harness.talk import Talk, pass_on, read, response

CASES: dict[str, Case] = {}
case = register(CASES)

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    """struct iovec"""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Mmsghdr(ctypes.Structure):
    """struct mmsghdr: a msghdr, padded, and the length that the call returns."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("length", ctypes.c_uint32),
    ]


def several(pieces: list[ctypes.Array[ctypes.c_char]]) -> ctypes.Array[Mmsghdr]:
    """One message a piece, as sendmmsg and recvmmsg take them."""
    messages = (Mmsghdr * len(pieces))()
    for message, piece in zip(messages, pieces, strict=True):
        message.iov = ctypes.pointer(Iovec(ctypes.addressof(piece), len(piece)))
        message.iov_length = 1
    return messages


def cut(data: bytes, parts: int) -> list[bytes]:
    """`data` in `parts` pieces of about the same length."""
    step = -(-len(data) // parts)
    return [data[begin : begin + step] for begin in range(0, len(data), step)]


def sendmmsg(end: socket.socket, data: bytes) -> None:
    pieces = [ctypes.create_string_buffer(piece, len(piece)) for piece in cut(data, 3)]
    assert libc.sendmmsg(end.fileno(), several(pieces), len(pieces), 0) == len(pieces), ctypes.get_errno()


def recvmmsg(end: socket.socket, count: int) -> bytes:
    # MSG_WAITALL: each message takes its whole part; MSG_WAITFORONE would end after the first.
    pieces = [ctypes.create_string_buffer(len(piece)) for piece in cut(bytes(count), 3)]
    assert libc.recvmmsg(end.fileno(), several(pieces), len(pieces), socket.MSG_WAITALL, None) == len(pieces)
    return b"".join(piece.raw for piece in pieces)


def recvmsg(end: socket.socket, count: int) -> bytes:
    parts = [bytearray(len(piece)) for piece in cut(bytes(count), 5)]
    received, _, _, _ = end.recvmsg_into(parts, 0, socket.MSG_WAITALL)
    assert received == count
    return b"".join(parts)


def readv(end: socket.socket, count: int) -> bytes:
    parts = [bytearray(len(piece)) for piece in cut(bytes(count), 4)]
    assert os.readv(end.fileno(), parts) == count
    return b"".join(parts)


def peeked(end: socket.socket, count: int) -> bytes:
    """A peek moves nothing, however often."""
    for _ in range(3):
        assert len(end.recv(count, socket.MSG_PEEK)) == count
    return end.recv(count)


def one_at_a_time(end: socket.socket, count: int) -> bytes:
    return b"".join(end.recv(1) for _ in range(count))


def into(end: socket.socket, count: int) -> bytes:
    buffer = bytearray(count + 5000)
    assert end.recv_into(buffer) == count
    return bytes(buffer[:count])


SENDS: dict[str, Callable[[socket.socket, bytes], object]] = {
    "write": lambda end, data: os.write(end.fileno(), data),
    "writev": lambda end, data: os.writev(end.fileno(), cut(data, 7)),
    "send": lambda end, data: end.send(data),
    "sendto": lambda end, data: end.sendto(data, end.getpeername()),
    "sendmsg": lambda end, data: end.sendmsg(cut(data, 3)),
    "sendmsg_of_one": lambda end, data: end.sendmsg([data]),
    "sendmsg_of_sixteen": lambda end, data: end.sendmsg(cut(data, 16)),
    "sendmsg_with_empty_parts": lambda end, data: end.sendmsg([b"", data[:9], b"", data[9:], b""]),
    "sendmsg_more": lambda end, data: (end.send(data[:50], socket.MSG_MORE), end.send(data[50:])),
    "sendmmsg": sendmmsg,
}
RECEIVES: dict[str, Callable[[socket.socket, int], bytes]] = {
    "read": lambda end, count: os.read(end.fileno(), count),
    "readv": readv,
    "recv": lambda end, count: end.recv(count),
    "recvfrom": lambda end, count: end.recvfrom(count)[0],
    "recvmsg": recvmsg,
    "recvmmsg": recvmmsg,
    "recv_into_more_room": into,
    "recv_peeked": peeked,
    "recv_one_at_a_time": one_at_a_time,
    "recv_wait_all": lambda end, count: end.recv(count, socket.MSG_WAITALL),
}


def wait_for_bytes(end: socket.socket, count: int) -> None:
    """Until `count` bytes lie in the receive buffer: loopback delivers a message of several writes in pieces."""
    available = ctypes.c_int()
    while available.value < count:
        libc.ioctl(end.fileno(), 0x541B, ctypes.byref(available))  # FIONREAD


def by_calls(send: Callable[[socket.socket, bytes], object], receive: Callable[[socket.socket, int], bytes]) -> Case:
    """Two requests and their answers, every byte through these two calls, on both ends."""

    def play(talk: Talk) -> None:
        client, server = talk.connect()
        for end in (client, server):
            end.setblocking(True)
        for n in range(2):
            for data, sender, receiver in (
                (talk.request(f"/{n}", method="POST", body=b"x" * 50), client, server),
                (response(200, b"y" * 333), server, client),
            ):
                send(sender, data)
                wait_for_bytes(receiver, len(data))
                assert receive(receiver, len(data)) == data
            talk.expect(f"/{n}", method="POST", request_size=50, response_size=333)

    return play


for name, send in SENDS.items():
    CASES[name] = by_calls(send, lambda end, count: end.recv(count))
for name, receive in RECEIVES.items():
    CASES[name] = by_calls(lambda end, data: end.send(data), receive)


@case
def sendfile(talk: Talk) -> None:
    """A body that never was in user memory is counted: its size is right, its bytes are not seen."""
    client, server = talk.connect()
    with tempfile.TemporaryFile() as file:
        file.write(b"f" * 25_000)
        file.flush()
        for n in range(3):
            pass_on(talk.request(f"/{n}"), client, server)
            pass_on(response(200, length=False, Content_Length="25000"), server, client)
            assert os.sendfile(server.fileno(), file.fileno(), 0, 25_000) == 25_000
            read(client, 25_000)
            talk.expect(f"/{n}", response_size=25_000)


@case
def spliced(talk: Talk) -> None:
    """The same by splice, as proxies do, in both directions."""
    client, server = talk.connect()
    reading, writing = os.pipe()
    for n in range(3):
        pass_on(talk.request(f"/{n}", method="POST", Content_Length="8000"), client, server)
        os.write(writing, b"x" * 8000)
        assert os.splice(reading, client.fileno(), 8000) == 8000
        wait_for_bytes(server, 8000)
        assert os.splice(server.fileno(), writing, 8000) == 8000
        os.read(reading, 8000)
        pass_on(response(200, b"y"), server, client)
        talk.expect(f"/{n}", method="POST", request_size=8000, response_size=1)
    os.close(reading)
    os.close(writing)


@case
def discarded(talk: Talk) -> None:
    """Bytes received with MSG_TRUNC are thrown away by the receiver's wish, and counted."""
    client, server = talk.connect()
    for n in range(2):
        pass_on(talk.request(f"/{n}"), client, server)
        pass_on(response(200, length=False, Content_Length="6000"), server, client)
        server.sendall(b"y" * 6000)
        wait_for_bytes(client, 6000)
        assert libc.recv(client.fileno(), None, 6000, socket.MSG_TRUNC) == 6000
        talk.expect(f"/{n}", response_size=6000)


@case
def zero_copy(talk: Talk) -> None:
    """MSG_ZEROCOPY sends from user memory all the same."""
    client, server = talk.connect()
    client.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
    for n in range(2):
        asked = talk.request(f"/{n}", method="POST", body=b"x" * 20_000)
        assert client.send(asked, 0x4000000) == len(asked)  # MSG_ZEROCOPY
        read(server, len(asked))
        pass_on(response(200), server, client)
        talk.expect(f"/{n}", method="POST", request_size=20_000)


@case
def through_a_copy_of_the_descriptor(talk: Talk) -> None:
    """A socket is the same by whatever number it is called."""
    client, server = talk.connect()
    other = socket.socket(fileno=os.dup(server.fileno()))
    talk.open.append(other)
    pass_on(talk.request("/a"), client, server)
    pass_on(response(200, b"y" * 30), other, client)
    server.close()
    pass_on(talk.request("/b"), client, other)
    pass_on(response(200, b"y" * 31), other, client)
    talk.expect("/a", response_size=30)
    talk.expect("/b", response_size=31)


@case
def numbers_reused(talk: Talk) -> None:
    """A new connection under the number of one just closed is another connection."""
    for n in range(50):
        client, server = talk.connect()
        pass_on(talk.request(f"/{n}"), client, server)
        pass_on(response(200, b"y" * n), server, client)
        talk.expect(f"/{n}", response_size=n)
        client.close()
        server.close()


@case
def partly_received(talk: Talk) -> None:
    """A send that the receiver takes in other pieces, and one that the kernel takes only part of."""
    client, server = talk.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    client.setblocking(False)
    asked = talk.request("/a", method="POST", body=b"x" * 300_000)
    sent = received = 0
    while received < len(asked):
        # Whichever can go on: room for the sender may come only once the receiver has taken everything.
        readable, writable, _ = select.select([server], [client] if sent < len(asked) else [], [], 20)
        assert readable or writable, f"stuck at {received} of {sent} bytes"
        if writable:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(asked[sent:])
        if readable:
            received += len(server.recv(777))
    client.settimeout(20)
    pass_on(response(200), server, client)
    talk.expect("/a", method="POST", request_size=300_000)


@pytest.mark.parametrize("name", CASES)
def test_calls(name: str, played: Played) -> None:
    """Exactly the spans, whatever calls moved the bytes."""
    played.assert_equal(name)


def test_the_balance(played: Played) -> None:
    """Bytes that no call brought to user memory are counted with their reason."""
    played.sheet.assert_balanced()
    unseen = played.sheet.unseen
    assert unseen["sendfile"] == 3 * 25_000 + 2 * 3 * 8000
    assert "hole" not in unseen
    assert unseen["trunc"] == 2 * 6000
