"""A request and its response, with the four times of both: what a span is built from."""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.base import Message
from otelbpf.telemetry.ledger import NOWHERE, Running
from otelbpf.values import Value

UNSET: Final = -1


class Exchange(Value):
    """One request and what came back. Times are the source's nanoseconds; UNSET where there is none yet."""

    __match_args__ = (
        "request",
        "pid",
        "request_first_ns",
        "request_last_ns",
        "response",
        "response_first_ns",
        "response_last_ns",
        "error",
        "serving",
        "running",
        "offset",
    )

    def __init__(
        self,
        request: Message,
        pid: int,
        request_first_ns: int,
        request_last_ns: int = UNSET,
        response: Message | None = None,
        response_first_ns: int = UNSET,
        response_last_ns: int = UNSET,
        error: str = "",
        serving: bool = True,
        running: Running = NOWHERE,
        offset: int = 0,
    ) -> None:
        self.request = request
        self.pid = pid
        """Process that read (server) or wrote (client) the request's first bytes."""
        self.request_first_ns = request_first_ns
        self.request_last_ns = request_last_ns
        self.response = response
        self.response_first_ns = response_first_ns
        self.response_last_ns = response_last_ns
        self.error = error
        """Why it did not come to a regular end: an errno name, or connection_closed."""
        self.serving = serving
        """This end answers the request; otherwise it made it."""
        self.running = running
        """Counts it, from its beginning until it is over or lost."""
        self.offset = offset
        """Stream offset of the request: the two ends of a connection agree on it."""
