"""A proxy that knows CONNECT alone, in the clear or, with a certificate, by https. Arguments: PORT [CERTIFICATE KEY]"""

from __future__ import annotations

import socket
import socketserver
import ssl
import sys
import threading


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Until it ends."""
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


class Tunnel(socketserver.StreamRequestHandler):
    """One connection, one tunnel."""

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as onward:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=copy, args=(onward, self.connection), daemon=True).start()
            copy(self.connection, onward)


socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Tunnel)
server.daemon_threads = True
if sys.argv[2:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
