"""A server of TLS whose threads hand work to each other, as Kestrel's do: one receives, another decrypts and answers,
another sends. Arguments: PORT CERTIFICATE KEY THREADS. /.../n is answered with 100 bytes, whatever it is.
"""

from __future__ import annotations

import queue
import selectors
import socket
import ssl
import sys
import threading
from collections.abc import Callable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"y" * 100
Task = Callable[[], None]


class Peer:
    """One connection; its steps are taken by whatever thread is free, one at a time."""

    def __init__(self, end: socket.socket, context: ssl.SSLContext, pool: queue.SimpleQueue[Task]) -> None:
        self.end, self._pool = end, pool
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._shaken = False
        self._asked = b""
        self.again: Task = lambda: None

    def receive(self) -> None:
        data = self.end.recv(65536)
        if not data:
            self.end.close()
            return
        self._in.write(data)
        self._pool.put(self._decrypt)

    def _decrypt(self) -> None:
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while True:
                self._asked += self._tls.read(65536)
        except ssl.SSLWantReadError:
            pass
        while b"\r\n\r\n" in self._asked:
            _, self._asked = self._asked.split(b"\r\n\r\n", 1)
            self._tls.write(ANSWER)
        self._pool.put(self._send)

    def _send(self) -> None:
        if self._out.pending:
            self.end.sendall(self._out.read())
        self.again()


def main() -> None:
    port, certificate, key, threads = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    pool: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def work() -> None:
        while True:
            pool.get()()

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", port))
    waiting = selectors.DefaultSelector()
    back: queue.SimpleQueue[Peer] = queue.SimpleQueue()
    reader, writer = socket.socketpair()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(reader, selectors.EVENT_READ)

    def hand_back(peer: Peer) -> None:
        back.put(peer)
        writer.send(b".")

    while True:
        for key_, _ in waiting.select():
            if key_.fileobj is listener:
                peer = Peer(listener.accept()[0], context, pool)
                peer.again = lambda peer=peer: hand_back(peer)  # type: ignore[misc]
                waiting.register(peer.end, selectors.EVENT_READ, peer)
            elif key_.fileobj is reader:
                reader.recv(1)
                peer = back.get()
                waiting.register(peer.end, selectors.EVENT_READ, peer)
            else:
                peer = key_.data
                waiting.unregister(peer.end)
                pool.put(peer.receive)


main()
