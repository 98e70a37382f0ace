"""A server of GnuTLS that takes early data: PORT CERTIFICATE KEY LIBRARY, a port and three files. It serves one
connection after the other; /.../n is answered with 10 n bytes.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from typing import Final

_SERVER: Final = 1
_ENABLE_EARLY_DATA: Final = 1 << 20
_CRD_CERTIFICATE: Final = 1
_X509_FMT_PEM: Final = 1


class _Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]


_Remember = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_remember = _Remember(lambda *_: 0)
"""Of what is replayed the library wants a memory; a test replays nothing."""


def main(port: int, certificate: str, key: str, file: str) -> None:
    """Answer until the end."""
    gnutls = ctypes.CDLL(file)
    for name in ("gnutls_record_send", "gnutls_record_recv", "gnutls_record_recv_early_data"):
        getattr(gnutls, name).restype = ctypes.c_ssize_t
    credentials, replays, tickets = ctypes.c_void_p(), ctypes.c_void_p(), _Datum()
    assert gnutls.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)) == 0
    files = certificate.encode(), key.encode()
    assert gnutls.gnutls_certificate_set_x509_key_file(credentials, *files, _X509_FMT_PEM) == 0
    assert gnutls.gnutls_session_ticket_key_generate(ctypes.byref(tickets)) == 0
    assert gnutls.gnutls_anti_replay_init(ctypes.byref(replays)) == 0
    gnutls.gnutls_anti_replay_set_add_function(replays, _remember)
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            accepted, _ = listening.accept()
            session = ctypes.c_void_p()
            assert gnutls.gnutls_init(ctypes.byref(session), _SERVER | _ENABLE_EARLY_DATA) == 0
            assert gnutls.gnutls_set_default_priority(session) == 0
            assert gnutls.gnutls_credentials_set(session, _CRD_CERTIFICATE, credentials) == 0
            assert gnutls.gnutls_session_ticket_enable_server(session, ctypes.byref(tickets)) == 0
            gnutls.gnutls_anti_replay_enable(session, replays)
            gnutls.gnutls_transport_set_int2(session, accepted.fileno(), accepted.fileno())
            while (result := gnutls.gnutls_handshake(session)) and not gnutls.gnutls_error_is_fatal(result):
                pass  # each early record is an interruption
            if not result:
                _serve(gnutls, session)
                gnutls.gnutls_bye(session, 1)
            gnutls.gnutls_deinit(session)
            accepted.close()


def _serve(gnutls: ctypes.CDLL, session: ctypes.c_void_p) -> None:
    """The requests of one connection, the early ones first."""
    buffer = ctypes.create_string_buffer(4096)
    text = b""
    while (count := gnutls.gnutls_record_recv_early_data(session, buffer, ctypes.c_size_t(16))) > 0:
        text += buffer.raw[:count]
    while True:
        while b"\r\n\r\n" in text:
            head, _, text = text.partition(b"\r\n\r\n")
            number = head.split()[1].rpartition(b"/")[2]
            body = b"x" * 10 * (int(number) if number.isdigit() else 0)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            assert gnutls.gnutls_record_send(session, answer, ctypes.c_size_t(len(answer))) == len(answer)
            if b"Connection: close" in head:
                return
        count = gnutls.gnutls_record_recv(session, buffer, ctypes.c_size_t(4096))
        if count <= 0:
            return
        text += buffer.raw[:count]


main(int(sys.argv[1]), *sys.argv[2:])
