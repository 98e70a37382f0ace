"""One connection to a server; it asks what standard input says, a line a request: METHOD PATH SIZE.

Arguments: ADDRESS PORT AUTHORITY; with a file of certificates as AUTHORITY it speaks TLS. An answer is a line: status,
size of the body, start and end in Unix nanoseconds, X-Peer.
A method that begins with SLOW- sends the first half of the body, says `half`, and waits for an empty line.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import time


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
if sys.argv[3]:
    context = ssl.create_default_context(cafile=sys.argv[3])
    connection = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), timeout=60, context=context)
for line in sys.stdin:
    method, path, size = line.split()
    body = b"x" * int(size)
    start_ns = time.time_ns()
    connection.putrequest(method.removeprefix("SLOW-"), path, skip_accept_encoding=True)
    connection.putheader("User-Agent", "keep-alive")
    if body:
        connection.putheader("Content-Length", size)
    connection.endheaders()
    half = len(body) // 2 if method.startswith("SLOW-") else len(body)
    connection.send(body[:half])
    if half < len(body):
        say("half")
        sys.stdin.readline()
        connection.send(body[half:])
    response = connection.getresponse()
    content = response.read()
    say(f"{response.status} {len(content)} {start_ns} {time.time_ns()} {response.headers['X-Peer']}")
