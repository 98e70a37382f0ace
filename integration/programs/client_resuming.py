"""Runs a plan with Python's ssl, a connection for each request, and each resumes the session of the one before.
Arguments: PLAN LOG N. TLS_CERTIFICATE and TLS_KEY name the files it shows who it is with. Says how often it resumed."""

from __future__ import annotations

import os
import ssl
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from integration.programs import workload


class Connection(HTTPSConnection):
    """Whose handshake may be abbreviated."""

    session: ssl.SSLSession | None = None

    def connect(self) -> None:
        """To the server, then the handshake."""
        super(HTTPSConnection, self).connect()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host, session=self.session)


def run(request: dict[str, Any], session: ssl.SSLSession | None) -> tuple[dict[str, Any], ssl.SSLSession | None, bool]:
    url = urlsplit(request["url"])
    assert url.hostname is not None
    answer = workload.Answer(request)
    connection = Connection(url.hostname, url.port)
    connection.session = session
    try:
        target = url.path + (f"?{url.query}" if url.query else "")
        connection.request(request["method"], target, b"x" * request["body"] or None, request["headers"])
        socket = connection.sock  # the response may close it
        assert isinstance(socket, ssl.SSLSocket)
        resumed = bool(socket.session_reused)
        response = connection.getresponse()
        body = response.read()
        # TLS 1.3 gives a ticket behind the handshake: it is there once something was read.
        return answer.done(response.status, len(body), response.getheader("X-Peer", "")), socket.session, resumed
    except OSError as error:
        return answer.failed(error), None, False
    finally:
        connection.close()


context = ssl.create_default_context()
if "TLS_CERTIFICATE" in os.environ:
    context.load_cert_chain(os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"])
plan, _ = workload.plan()
answers: list[dict[str, Any]] = []
session, resumed = None, 0
for each in plan:
    line, session, again = run(each, session)
    answers.append(line)
    resumed += again
print(f"resumed {resumed}", flush=True)  # noqa: T201
workload.write_log(answers)
