"""What the traced process does: each function runs in a worker process and returns the facts that its test expects."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from integration.test_calls import libc, several

ADDRESSES = {"ipv4": "127.0.0.1", "ipv6": "::1", "mapped": "::ffff:127.0.0.1"}
REQUEST = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Ports = tuple[int, int]
"""The client's and the server's."""


def listen(address: str = "127.0.0.1", backlog: int = 16) -> socket.socket:
    """A listening socket on a free port."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if address.startswith("::ffff"):
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = "::"
    listener.bind((address, 0))
    listener.listen(backlog)
    return listener


@contextmanager
def connection(family: str = "ipv4") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a new connection; closed in order: the client first."""
    address = ADDRESSES[family]
    with listen(address) as listener:
        client = socket.socket(listener.family)
        client.connect((address, listener.getsockname()[1]))
        server, _ = listener.accept()
    with server, client:
        yield client, server
        client.close()
        with contextlib.suppress(OSError):
            server.recv(1)


def ports(client: socket.socket, server: socket.socket) -> Ports:
    """How a test finds the connection again."""
    return client.getsockname()[1], server.getsockname()[1]


def read_exactly(end: socket.socket, size: int) -> bytes:
    """`size` bytes, each call as large as it comes."""
    data = b""
    while len(data) < size:
        part = end.recv(size - len(data))
        assert part, f"the stream ended after {len(data)} of {size} bytes"
        data += part
    return data


def _sendmmsg(end: socket.socket, parts: Sequence[bytes]) -> int:
    buffers = [ctypes.create_string_buffer(part, len(part)) for part in parts]
    messages = several(buffers)
    sent = libc.sendmmsg(end.fileno(), messages, len(parts), 0)
    assert sent == len(parts)
    return sum(message.length for message in messages)


def _recvmmsg(end: socket.socket, size: int) -> bytes:
    buffers = [ctypes.create_string_buffer(size) for _ in range(3)]
    messages = several(buffers)
    count = libc.recvmmsg(end.fileno(), messages, 3, socket.MSG_DONTWAIT, None)
    assert count > 0
    return b"".join(buffer.raw[: message.length] for buffer, message in zip(buffers, messages[:count], strict=False))


def _readv(end: socket.socket, size: int) -> bytes:
    parts = [bytearray(7), bytearray(size)]
    count = os.readv(end.fileno(), parts)
    return b"".join(parts)[:count]


def _preadv2(end: socket.socket, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    vector = struct.pack("<QQ", ctypes.addressof(buffer), size)
    count = libc.syscall(327, end.fileno(), vector, 1, ctypes.c_long(-1), ctypes.c_long(-1), 0)
    assert count > 0
    return buffer.raw[:count]


def _pwritev2(end: socket.socket, data: bytes) -> int:
    buffer = ctypes.create_string_buffer(data, len(data))
    vector = struct.pack("<QQ", ctypes.addressof(buffer), len(data))
    return int(libc.syscall(328, end.fileno(), vector, 1, ctypes.c_long(-1), ctypes.c_long(-1), 0))


def _two(data: bytes) -> list[bytes]:
    return [data[:5], data[5:]]


SENDERS: dict[str, Callable[[socket.socket, bytes], int]] = {
    "write": lambda end, data: os.write(end.fileno(), data),
    "writev": lambda end, data: os.writev(end.fileno(), _two(data)),
    "sendto": lambda end, data: end.send(data),
    "sendmsg": lambda end, data: end.sendmsg(_two(data)),
    "pwritev2": _pwritev2,
}
RECEIVERS: dict[str, Callable[[socket.socket, int], bytes]] = {
    "read": lambda end, size: os.read(end.fileno(), size),
    "readv": _readv,
    "recvfrom": lambda end, size: end.recv(size),
    "recvmsg": lambda end, size: end.recvmsg([7, size][1])[0],
    "recvmmsg": _recvmmsg,
    "preadv2": _preadv2,
}


def rounds(sender: str, receiver: str, family: str, messages: Sequence[bytes]) -> Ports:
    """The client sends each message by one call, the server takes it by one call and answers nothing."""
    with connection(family) as (client, server):
        for message in messages:
            assert SENDERS[sender](client, message) == len(message)
            assert RECEIVERS[receiver](server, 4096) == message
        return ports(client, server)


def send_several(batches: Sequence[Sequence[bytes]]) -> Ports:
    """sendmmsg, a call for each of `batches`."""
    with connection() as (client, server):
        for batch in batches:
            size = sum(map(len, batch))
            assert _sendmmsg(client, batch) == size
            read_exactly(server, size)
        return ports(client, server)


def send_vectors(vectors: Sequence[Sequence[bytes]], turn: bool = True) -> Ports:
    """The server sends each vector by one writev; before each the client sends a request (`turn`), or only once."""
    with connection() as (client, server):
        for number, vector in enumerate(vectors):
            if turn or not number:
                client.send(REQUEST)
                read_exactly(server, len(REQUEST))
            size = sum(map(len, vector))
            reader = threading.Thread(target=read_exactly, args=(client, size))
            reader.start()
            assert os.writev(server.fileno(), vector) == size
            reader.join()
        return ports(client, server)


def send_file(size: int) -> Ports:
    """The server sends a file by sendfile, then plainly."""
    with tempfile.TemporaryFile() as file, connection() as (client, server):
        file.write(b"f" * size)
        file.flush()
        assert os.sendfile(server.fileno(), file.fileno(), 0, size) == size
        read_exactly(client, size)
        server.send(b"end")
        read_exactly(client, 3)
        return ports(client, server)


def splice_out(size: int) -> Ports:
    """The server moves what it receives into a pipe by splice; then it reads plainly."""
    with connection() as (client, server):
        _splice(client, server, size)
        client.send(b"plain")
        read_exactly(server, 5)
        return ports(client, server)


def _splice(client: socket.socket, server: socket.socket, size: int) -> None:
    end, start = os.pipe()
    client.send(b"s" * size)
    moved = 0
    while moved < size:
        moved += os.splice(server.fileno(), start, size - moved)
    assert len(os.read(end, size)) == size
    os.close(end)
    os.close(start)


def splice_in(size: int) -> Ports:
    """The client sends what lies in a pipe."""
    with connection() as (client, server):
        end, start = os.pipe()
        os.write(start, b"s" * size)
        assert os.splice(end, client.fileno(), size) == size
        read_exactly(server, size)
        os.close(end)
        os.close(start)
        return ports(client, server)


def peek() -> Ports:
    """The server peeks twice, then reads."""
    with connection() as (client, server):
        client.send(REQUEST)
        for _ in range(2):
            assert server.recv(4096, socket.MSG_PEEK) == REQUEST
        assert server.recv(4096) == REQUEST
        return ports(client, server)


def truncate() -> Ports:
    """The server throws the first bytes away and reads the others."""
    with connection() as (client, server):
        client.send(b"thrown away" + REQUEST)
        buffer = ctypes.create_string_buffer(11)
        assert libc.recv(server.fileno(), buffer, 11, socket.MSG_TRUNC) == 11
        assert server.recv(4096) == REQUEST
        return ports(client, server)


def reset() -> Ports:
    """The client resets."""
    with connection() as (client, server):
        found = ports(client, server)
        client.send(REQUEST)
        read_exactly(server, len(REQUEST))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        return found


def close_unread() -> Ports:
    """The server closes without reading."""
    with connection() as (client, server):
        found = ports(client, server)
        client.send(REQUEST)
        server.recv(4)
        server.close()
        with contextlib.suppress(ConnectionError):
            client.recv(1)
        return found


def half_close() -> Ports:
    """The client ends its side; the answer and the end of the other side arrive before it reads."""
    with connection() as (client, server):
        found = ports(client, server)
        client.send(REQUEST)
        client.shutdown(socket.SHUT_WR)
        read_exactly(server, len(REQUEST))
        assert server.recv(1) == b""
        server.send(RESPONSE)
        server.close()
        time.sleep(0.2)
        read_exactly(client, len(RESPONSE))
        assert client.recv(1) == b""
        return found


def refused() -> Ports:
    """A connection to a port where nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        local = client.getsockname()[1]
        with contextlib.suppress(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
            raise AssertionError("somebody listened")
    return local, port


def timed_out() -> Ports:
    """A connection to a listener that has no room: the answer never comes, and one retry is all it gets."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(backlog=0))
        port = listener.getsockname()[1]
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        client.bind(("127.0.0.1", 0))
        local = int(client.getsockname()[1])
        with contextlib.suppress(TimeoutError):
            client.connect(("127.0.0.1", port))
            raise AssertionError("there was room")
    return local, int(port)


def fast_open() -> Ports | None:
    """The first bytes go with the SYN (TCP Fast Open); None where the host does not allow it."""
    setting = "/proc/sys/net/ipv4/tcp_fastopen"
    with open(setting, encoding="ascii") as file:
        before = file.read()
    try:
        with open(setting, "w", encoding="ascii") as file:
            file.write("1027")  # client and server, without a cookie
    except OSError:
        return None
    try:
        with listen() as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            with socket.socket() as client:
                client.sendto(REQUEST, socket.MSG_FASTOPEN, listener.getsockname())
                server, _ = listener.accept()
                with server:
                    read_exactly(server, len(REQUEST))
                    server.send(RESPONSE)
                    read_exactly(client, len(RESPONSE))
                    found = ports(client, server)
                    client.close()
                    server.recv(1)
                    return found
    finally:
        with open(setting, "w", encoding="ascii") as file:
            file.write(before)


_held: dict[str, tuple[socket.socket, socket.socket]] = {}


def hold(name: str) -> Ports:
    """Open a connection that stays."""
    with listen() as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    _held[name] = client, server
    return ports(client, server)


def use(name: str, request: bytes = REQUEST, response: bytes = RESPONSE) -> int:
    """One request over a connection that stays; this process's pid."""
    client, server = _held[name]
    client.send(request)
    read_exactly(server, len(request))
    server.send(response)
    read_exactly(client, len(response))
    return os.getpid()


def splice_from(name: str, size: int) -> None:
    """The server of a connection that stays moves what it receives into a pipe."""
    _splice(*_held[name], size)


def let_go(name: str) -> None:
    """Close a connection that stayed."""
    client, server = _held.pop(name)
    client.close()
    server.recv(1)
    server.close()


_kept: list[socket.socket] = []


def open_port() -> int:
    """Listen; `answer` goes on."""
    _kept.append(listen())
    return int(_kept[0].getsockname()[1])


def answer() -> None:
    """Accept one connection at that port, answer one request, wait for the end."""
    with _kept.pop() as listener:
        server, _ = listener.accept()
    with server:
        read_exactly(server, len(REQUEST))
        server.send(RESPONSE)
        assert server.recv(1) == b""


def ask(port: int) -> int:
    """Connect and send a request; the own port. `hear` goes on."""
    _kept.append(socket.create_connection(("127.0.0.1", port)))
    _kept[0].send(REQUEST)
    return int(_kept[0].getsockname()[1])


def hear() -> None:
    """Read the answer."""
    with _kept.pop() as client:
        read_exactly(client, len(RESPONSE))


def in_another_program(addresses: int = 1) -> tuple[int, list[Ports]]:
    """A process that talks, runs another program in its place, and talks again: its pid, and both connections."""
    script = (
        "import os, sys, integration.kernel.workload as w\n"
        "print(*w.one_exchange(), flush=True)\n"
        "if len(sys.argv) > 1: os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-1]])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, "again"], stdout=subprocess.PIPE, text=True)
    output, _ = child.communicate()
    found = [tuple(map(int, line.split())) for line in output.splitlines()]
    return child.pid, [(a, b) for a, b in found]


def one_exchange() -> Ports:
    """A request and its answer, over a new connection within this process."""
    with connection() as (client, server):
        client.send(REQUEST)
        read_exactly(server, len(REQUEST))
        server.send(RESPONSE)
        read_exactly(client, len(RESPONSE))
        return ports(client, server)


def exchange_in_child(cgroup: str = "") -> tuple[int, Ports]:
    """The same in a process of its own, moved to a cgroup first: its pid too."""
    end, start = os.pipe()
    child = os.fork()
    if not child:
        try:
            if cgroup:
                with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")
            os.write(start, "{} {}".format(*one_exchange()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    client, server = map(int, os.read(end, 100).split())
    os.close(end)
    os.close(start)
    return child, (client, server)


def inherited() -> tuple[list[int], Ports]:
    """A connection on which first this process and then a child of its own sends: their pids."""
    with connection() as (client, server):
        client.send(REQUEST)
        read_exactly(server, len(REQUEST))
        child = os.fork()
        if not child:
            try:
                client.send(REQUEST)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        read_exactly(server, len(REQUEST))
        return [os.getpid(), child], ports(client, server)


def killed() -> Ports:
    """The client is killed in the middle of a request."""
    with listen() as listener:
        end, start = os.pipe()
        child = os.fork()
        if not child:
            client = socket.create_connection(listener.getsockname())
            client.send(REQUEST[:10])
            os.write(start, str(client.getsockname()[1]).encode())
            signal.pause()
        server, _ = listener.accept()
        with server:
            read_exactly(server, 10)
            found = int(os.read(end, 100)), int(server.getsockname()[1])
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert server.recv(1) == b""
        os.close(end)
        os.close(start)
        return found


def flood(messages: int, size: int) -> tuple[Ports, int]:
    """Many messages with no turn; the ports, and how many bytes went."""
    with connection() as (client, server):
        reader = threading.Thread(target=read_exactly, args=(server, messages * size))
        reader.start()
        for number in range(messages):
            client.sendall(number.to_bytes(4, "big") + b"x" * (size - 4))
        reader.join()
        return ports(client, server), messages * size


def other_sockets() -> int:
    """What is not TCP; the process's pid."""
    first, second = socket.socketpair()
    first.send(REQUEST)
    second.recv(4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        datagrams.sendto(REQUEST, datagrams.getsockname())
        datagrams.recv(4096)
    first.close()
    second.close()
    return os.getpid()


def kernel_tls() -> Ports | None:
    """The client's side is encrypted by the kernel; None where it cannot."""
    with connection() as (client, server):
        client.send(b"plain")
        read_exactly(server, 5)
        try:
            client.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP
            # struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, record number
            info = struct.pack("<HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8))
            client.setsockopt(282, 1, info)  # SOL_TLS, TLS_TX
        except OSError:
            return None
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        read_exactly(server, 5 + 18 + 1 + 16)
        return ports(client, server)


def send_by_ring(data: bytes) -> Ports | None:
    """The client sends by io_uring(7); None where the host does not allow it."""
    # struct io_uring_params: 40 bytes, then struct io_sqring_offsets {head, tail, mask, entries, flags, dropped, array}
    parameters = ctypes.create_string_buffer(120)
    ring = libc.syscall(425, 4, parameters)  # io_uring_setup
    if ring < 0:
        return None
    _, tail_at, _, _, _, _, array_at = struct.unpack_from("<7I", parameters, 40)
    with connection() as (client, server):
        buffer = ctypes.create_string_buffer(data, len(data))
        with mmap.mmap(ring, 4096, offset=0) as queue, mmap.mmap(ring, 4096, offset=0x10000000) as entries:
            # struct io_uring_sqe: opcode SEND, flags, ioprio, fd, off, addr, len
            struct.pack_into("<BBHiQQI", entries, 0, 26, 0, 0, client.fileno(), 0, ctypes.addressof(buffer), len(data))
            struct.pack_into("<I", queue, array_at, 0)
            struct.pack_into("<I", queue, tail_at, 1)
            assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1  # io_uring_enter, and wait for it
        os.close(ring)
        read_exactly(server, len(data))
        return ports(client, server)


_CALL_32 = bytes.fromhex("53 89f8 89f3 4189c8 89d1 4489c2 cd80 5b c3")
"""x86_64 machine code of int call(int eax, int ebx, int ecx, int edx): int 0x80, as 32-bit programs call the kernel."""


def send_by_32_bit_call(data: bytes) -> Ports | None:
    """The client sends by the system call interface of 32-bit programs; None where the kernel has none."""
    low = 0x40  # MAP_32BIT: the interface takes no larger addresses
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | low
    with connection() as (client, server):
        code = mmap.mmap(-1, 4096, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(_CALL_32)
        memory = mmap.mmap(-1, 4096, flags=flags)
        memory.write(data)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint32] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        child = os.fork()
        if not child:
            os._exit(0 if call(4, client.fileno(), address, len(data)) == len(data) else 1)
        _, status = os.waitpid(child, 0)
        if status:
            return None
        read_exactly(server, len(data))
        return ports(client, server)


def many_exchanges(count: int) -> tuple[list[Ports], int]:
    """So many connections at once, a request and its answer on each; the bytes that both ends sent and received."""
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(connection()) for _ in range(count)]
        for client, server in pairs:
            client.send(REQUEST)
            read_exactly(server, len(REQUEST))
            server.send(RESPONSE)
            read_exactly(client, len(RESPONSE))
        return [ports(*pair) for pair in pairs], 2 * count * (len(REQUEST) + len(RESPONSE))


def churn(seconds: float, seed: int) -> None:
    """Connections that begin, talk in both directions at once and end in every way, on many threads."""
    until = time.monotonic() + seconds
    with listen(backlog=64) as listener:
        server = threading.Thread(target=_accept_until_closed, args=(listener,))
        server.start()
        clients = [
            threading.Thread(target=_connect_until, args=(listener.getsockname(), until, random.Random(seed + number)))
            for number in range(8)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def _accept_until_closed(listener: socket.socket) -> None:
    answering: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            server, _ = listener.accept()
            answering.append(threading.Thread(target=_echo, args=(server, random.Random(len(answering)))))
            answering[-1].start()
    for thread in answering:
        thread.join()


def _echo(server: socket.socket, choose: random.Random) -> None:
    with server, contextlib.suppress(OSError):
        server.settimeout(5)
        while data := server.recv(choose.choice((100, 1000, 70000))):
            server.sendall(data * choose.choice((1, 1, 3)))
            if choose.random() < 0.05:
                break
        _maybe_reset(server, choose)


def _connect_until(address: tuple[str, int], until: float, choose: random.Random) -> None:
    while time.monotonic() < until:
        with socket.create_connection(address) as client, contextlib.suppress(OSError):
            client.settimeout(1)
            reader = threading.Thread(target=_drain, args=(client, choose.choice((10, 5000, 100000))))
            reader.start()
            try:
                for _ in range(choose.randrange(20)):
                    client.sendall(REQUEST * choose.choice((1, 10, 1000)))
                if choose.random() < 0.3:
                    client.shutdown(socket.SHUT_WR)
                _maybe_reset(client, choose)
                if choose.random() < 0.5:
                    client.shutdown(socket.SHUT_RDWR)
            finally:
                reader.join()


def _drain(client: socket.socket, size: int) -> None:
    with contextlib.suppress(OSError):
        while client.recv(size):
            pass


def _maybe_reset(end: socket.socket, choose: random.Random) -> None:
    if choose.random() < 0.2:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
