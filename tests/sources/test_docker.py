"""An engine's answers, over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelbpf.sources.docker import inspect

ID = "0123456789abcdef" * 4
ANSWER = (
    b'{"Id":"0123","Created":"2026-11-26T10:00:00Z","Path":"/entry","Args":["--password=hunter2"],'
    b'"State":{"Status":"running","Pid":4242},"Image":"sha256:5f0a","Name":"/shop-web-1",'
    b'"Config":{"Hostname":"ab","Env":["SECRET=x"],"Image":"shop/web:1.2",'
    b'"Labels":{"com.docker.compose.service":"web","maintainer":"somebody"}}}'
)

Serve = Callable[[bytes], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A socket at which every question gets the same bytes; what was asked is written beside it."""
    listeners: list[socket.socket] = []

    def start(answer: bytes) -> str:
        path = tmp_path / "engine.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        listeners.append(listener)

        def answer_each() -> None:
            while True:
                try:
                    asker, _ = listener.accept()
                except OSError:
                    return
                with asker:
                    (tmp_path / "asked").write_bytes(asker.recv(65536))
                    asker.sendall(answer)

        threading.Thread(target=answer_each, daemon=True).start()
        return str(path)

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def response(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


def test_what_is_told_of_a_container(serve: Serve, tmp_path: Path) -> None:
    """One GET; of the answer name, image and labels."""
    found = inspect(serve(response("200 OK", ANSWER)), ID)

    assert found is not None
    assert (found.name, found.image, found.config.image) == ("/shop-web-1", "sha256:5f0a", "shop/web:1.2")
    assert found.config.labels == {"com.docker.compose.service": "web", "maintainer": "somebody"}
    assert (tmp_path / "asked").read_bytes().startswith(b"GET /containers/%b/json HTTP/1.1\r\n" % ID.encode())


def test_a_container_without_labels(serve: Serve) -> None:
    """Docker says null."""
    found = inspect(serve(response("200 OK", b'{"Name":"/a","Config":{"Image":"b","Labels":null}}')), ID)
    assert found is not None
    assert found.config.labels is None


def test_a_container_of_somebody_else(serve: Serve) -> None:
    """The engine does not know it."""
    assert inspect(serve(response("404 Not Found", b'{"message":"No such container"}')), ID) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (response("500 Internal Server Error", b"{}"), "answers 500"),
        (response("200 OK", b"[1]"), "is not understood"),
        (response("200 OK", b'{"Name": 7}'), "is not understood"),
        (b"220 mail.example ESMTP\r\n", "is not understood"),
        (b"", "is not understood"),
    ],
)
def test_what_makes_no_sense_is_an_error_of_its_own(answer: bytes, why: str, serve: Serve) -> None:
    """Whatever listens there."""
    with pytest.raises(OSError, match=why):
        inspect(serve(answer), ID)


def test_no_engine(tmp_path: Path) -> None:
    """Nor a socket."""
    with pytest.raises(FileNotFoundError):
        inspect(str(tmp_path / "none.sock"), ID)
