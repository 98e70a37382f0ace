"""Runs a plan over TLS, three requests a connection, one connection after the other: each asks to go on from the
session of the one before. Arguments: PLAN LOG N, which must be 1. SSL_CERT_FILE vouches for the server; with
CLIENT_CERTIFICATE and CLIENT_KEY the client shows that certificate. Each line of the log also has `resumed`: what the
library says of that.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from integration.programs import workload

A_CONNECTION = 3

plan, _ = workload.plan()
context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
if "CLIENT_CERTIFICATE" in os.environ:
    context.load_cert_chain(os.environ["CLIENT_CERTIFICATE"], os.environ["CLIENT_KEY"])
session: ssl.SSLSession | None = None
lines: list[dict[str, Any]] = []
for begin in range(0, len(plan), A_CONNECTION):
    url = urlsplit(plan[begin]["url"])
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port)
    plain = socket.create_connection((url.hostname, url.port), timeout=60)
    secured = context.wrap_socket(plain, server_hostname=url.hostname, session=session)
    connection.sock = secured
    for request in plan[begin : begin + A_CONNECTION]:
        answer = workload.Answer(request)
        target = urlsplit(request["url"])._replace(scheme="", netloc="").geturl()
        body = b"x" * request["body"] if request["body"] else None
        connection.request(request["method"], target, body, request["headers"])
        response = connection.getresponse()
        line = answer.done(response.status, len(response.read()), response.headers.get("X-Peer", ""))
        lines.append({**line, "resumed": secured.session_reused})
    session = secured.session  # tickets of TLS 1.3 come behind the first answer at the latest
    connection.close()
workload.write_log(lines)
