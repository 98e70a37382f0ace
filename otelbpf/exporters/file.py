"""Batches written to a file, a pipe or standard output.

A file is emptied when the exporter starts, and then only appended to, so a rotation that truncates it does no harm. A
batch that could not be written whole (disk full) is taken back before it is tried again: a regular file never holds
half a line. A pipe that nobody reads any more refuses everything; one that is merely full makes the spans wait.
"""

from __future__ import annotations

import os
import select
import stat

from otelbpf.errors import ExportError
from otelbpf.exporters.base import Delivered, Outcome, Refused, Unavailable

_FINAL = (BrokenPipeError, ConnectionResetError)
"""Errors after which no attempt will succeed."""


class FileSender:
    """Writes each batch to a file descriptor. `owned` says whether `close` closes it."""

    def __init__(self, fd: int, *, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self._closed = False
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)

    def send(self, payload: bytes, timeout_seconds: float) -> Outcome:
        """Write the whole batch. Only its first byte is subject to the time: half a line cannot be left behind."""
        try:
            if not self._regular and not self._await_room(timeout_seconds):
                return Unavailable("the reader does not read")
            before = os.fstat(self._fd).st_size if self._regular else 0
            try:
                self._write(payload)
            except OSError:
                if self._regular:
                    os.ftruncate(self._fd, before)
                    os.lseek(self._fd, before, os.SEEK_SET)
                raise
        except _FINAL as error:
            return Refused(error.strerror or type(error).__name__)
        except OSError as error:
            return Unavailable(error.strerror or type(error).__name__)
        return Delivered()

    def _write(self, payload: bytes) -> None:
        left = memoryview(payload)
        while left and not self._closed:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                self._await_room(None)

    def _await_room(self, timeout_seconds: float | None) -> bool:
        """Wait until something can be written, or until writing would fail at once."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(None if timeout_seconds is None else timeout_seconds * 1000))

    def close(self) -> None:
        """Close the file if it is ours."""
        if not self._closed:
            self._closed = True
            if self._owned:
                os.close(self._fd)


def open_descriptor(fd: int) -> FileSender:
    """A sender to a file that is open already and stays open: standard output."""
    try:
        return FileSender(fd, owned=False)
    except OSError as error:
        raise ExportError(
            "standard output is closed", "name an exporter that does not need it: --export file:PATH"
        ) from error


def open_file(path: str) -> FileSender:
    """A sender to this path, which is emptied."""
    # A named pipe without a reader is an error now and not a wait for ever: hence O_NONBLOCK, for the opening only.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o644)
    except (OSError, ValueError) as error:
        # Versions of Python differ in what they say of a NUL, the one thing that is no OSError.
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "a path has no NUL"
        raise ExportError(f"cannot write spans to {path!r}: {reason}", _remedy(error, path)) from error
    os.set_blocking(fd, True)
    return FileSender(fd, owned=True)


def _remedy(error: Exception, path: str) -> str:
    match error:
        case FileNotFoundError():
            return f"make its folder first: mkdir -p {os.path.dirname(path) or '.'}"
        case IsADirectoryError():
            return "name a file in it"
        case PermissionError():
            return "choose a place that this user may write to"
        case _:
            return "choose another place with --export file:PATH, or file:- for standard output"
