"""A server and its client, of Python's own library alone, so that they run wherever a Python does:

secured_pair.py serve PLAIN TLS CERTIFICATE KEY     answers on both ports
secured_pair.py ask PLAIN TLS CERTIFICATE RUN N     asks N requests of each, one behind the other on one connection

Request number n is answered with 10 n bytes, every fifth one with 503.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    """GET /.../n"""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        number = int(self.path.rpartition("/")[2])
        self.send_response(200 if number % 5 else 503)
        self.send_header("Content-Length", str(10 * number))
        self.end_headers()
        self.wfile.write(b"x" * 10 * number)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def serve(plain: int, tls: int, certificate: str, key: str) -> None:
    """Answer until the end."""
    secured = ThreadingHTTPServer(("127.0.0.1", tls), Answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    secured.socket = context.wrap_socket(secured.socket, server_side=True)
    threading.Thread(target=secured.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", plain), Answer).serve_forever()


def ask(plain: int, tls: int, certificate: str, run: str, count: int) -> None:
    """Ask, once the server listens."""
    context = ssl.create_default_context(cafile=certificate)
    for scheme, connection in (
        ("http", http.client.HTTPConnection("127.0.0.1", plain)),
        ("https", http.client.HTTPSConnection("127.0.0.1", tls, context=context)),
    ):
        deadline = time.monotonic() + 20
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "nobody listens"
                time.sleep(0.05)
        for number in range(count):
            connection.request("GET", f"/r/{run}/{scheme}/{number}")
            assert len(connection.getresponse().read()) == 10 * number
        connection.close()


if __name__ == "__main__":
    role, plain_port, tls_port, file, *more = sys.argv[1:]
    if role == "serve":
        serve(int(plain_port), int(tls_port), file, more[0])
    else:
        ask(int(plain_port), int(tls_port), file, more[0], int(more[1]))
