"""Serves plain text and maps no TLS library until it is asked for /secure: then it loads one and listens there, too.

Arguments: PLAIN TLS CERTIFICATE KEY, two ports and two files. /.../n is answered with 10 n bytes. Clients may
renegotiate.
"""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Callable

ALLOW_CLIENT_RENEGOTIATION = 1 << 8  # which Python has no name for


class Answer(socketserver.StreamRequestHandler):
    """Requests without bodies, on one connection."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            path = line.split()[1].decode()
            if path == "/secure":
                secure()
            number = path.rpartition("/")[2]
            body = b"x" * 10 * (int(number) if number.isdigit() else 0)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def listen(port: int, wrap: Callable[[socketserver.TCPServer], None] = lambda _: None) -> None:
    """Answer there until the end."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Answer)
    server.daemon_threads = True
    wrap(server)
    threading.Thread(target=server.serve_forever).start()


def secure() -> None:
    """Load the library; http.server would have loaded it at once."""
    import ssl  # noqa: PLC0415 - this is what is to happen late

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    context.load_cert_chain(sys.argv[3], sys.argv[4])

    def wrap(server: socketserver.TCPServer) -> None:
        server.socket = context.wrap_socket(server.socket, server_side=True)

    listen(int(sys.argv[2]), wrap)


socketserver.ThreadingTCPServer.allow_reuse_address = True
listen(int(sys.argv[1]))
