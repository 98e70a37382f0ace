"""A server whose every connection is a child's, which ends with it: forking.py PORT."""

from __future__ import annotations

import os
import signal
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def main() -> None:
    """Until it is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of a child
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64) as listener:
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(65536)
                connection.sendall(ANSWER)
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    main()
