"""Asks over TLS by Python's library, and then by a second one, which it loads when it is told to.

Arguments: PORT CERTIFICATE LIBRARY PATH. Asks for PATH/first/0 to 4, prints `loaded` when the second library is there,
waits for a line, and asks for PATH/second/0 to 4, each time on one connection.
"""

from __future__ import annotations

import ctypes
import http.client
import socket
import ssl
import sys

COUNT = 5


def ask_by_the_first(port: int, certificate: str, path: str) -> None:
    """As every program of Python does it."""
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    for number in range(COUNT):
        connection.request("GET", f"{path}/first/{number}")
        assert connection.getresponse().read() == b"ok\n"
    connection.close()


def load(path: str) -> ctypes.CDLL:
    """The second library; what it hands out are pointers."""
    library = ctypes.CDLL(path)
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def ask_by_the_second(library: ctypes.CDLL, port: int, path: str) -> None:
    """As a program in C does it; nobody verifies the certificate."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
        session = ctypes.c_void_p(library.SSL_new(context))
        assert library.SSL_set_fd(session, plain.fileno()) == 1
        assert library.SSL_connect(session) == 1
        buffer = ctypes.create_string_buffer(4096)
        for number in range(COUNT):
            request = f"GET {path}/second/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            assert library.SSL_write(session, request, len(request)) == len(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                size = library.SSL_read(session, buffer, len(buffer))
                assert size > 0, library.SSL_get_error(session, size)
                answer += buffer.raw[:size]
        library.SSL_shutdown(session)
        library.SSL_free(session)


port, certificate, library, path = int(sys.argv[1]), *sys.argv[2:]
ask_by_the_first(port, certificate, path)
loaded = load(library)
sys.stdout.write("loaded\n")
sys.stdout.flush()
sys.stdin.readline()
ask_by_the_second(loaded, port, path)
