"""A request and its response, with the four times of both: what a span is built from."""

from __future__ import annotations

import msgspec

from otelbpf.protocols.base import Message
from otelbpf.telemetry.ledger import NOWHERE, Running

UNSET = -1


class Exchange(msgspec.Struct, gc=False):
    """One request and what came back. Times are the source's nanoseconds; UNSET where there is none yet."""

    request: Message
    pid: int
    """Process that read (server) or wrote (client) the request's first bytes."""
    request_first_ns: int
    request_last_ns: int = UNSET
    response: Message | None = None
    response_first_ns: int = UNSET
    response_last_ns: int = UNSET
    error: str = ""
    """Why it did not come to a regular end: an errno name, or connection_closed."""
    serving: bool = True
    """This end answers the request; otherwise it made it."""
    running: Running = NOWHERE
    """Counts it, from its beginning until it is over or lost."""
    offset: int = 0
    """Stream offset of the request: the two ends of a connection agree on it."""
