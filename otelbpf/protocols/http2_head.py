"""What the fields of a header block mean to HTTP (RFC 9113 section 8.3): pseudo-header fields and the rest."""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.grpc import GRPC

OWN: Final = frozenset({":authority", ":method", ":path", ":protocol", ":scheme", ":status", "content-type", "host"})
"""Fields that are kept whoever wants them: they say what a message is."""

NOTHING: Final[frozenset[str]] = frozenset()
_UNNAMED: Final = frozenset({""})
_UNNAMED_STATUS: Final = frozenset({"", ":status"})
_OF_REQUEST: Final = (":method", ":path", ":scheme", ":authority")


class Head:
    """What one block says. The same object may serve many messages: read it, do not change it."""

    __slots__ = (
        "beyond",
        "grpc",
        "headers",
        "method",
        "of_request",
        "of_response",
        "of_trailers",
        "pseudo",
        "status",
        "target",
    )

    def __init__(self, headers: dict[str, str], *, beyond: bool) -> None:
        self.headers = headers
        """As `base.Message` has them, `:authority` as host; `:scheme` and `:protocol` by these names."""
        self.method = self.target = ""
        self.status = 0
        self.pseudo = False
        """There is a field that no trailers may have."""
        self.grpc = ""
        """The content type, where it is one of gRPC's."""
        self.beyond = beyond
        """Not everything that is wanted was kept."""
        self.of_request = self.of_response = self.of_trailers = NOTHING
        """What is unknown (see `base.StreamMessage`) if it is the one or the other: a field that every request has and
        that is not there must be among those without a name."""


def read_head(values: dict[str, str], *, unnamed: bool, beyond: bool) -> Head:
    """`values`: wanted fields by name; the dict becomes the head's."""
    size = len(values)
    head = Head(values, beyond=beyond)
    method = values.pop(":method", None)
    path = values.pop(":path", None)
    authority = values.pop(":authority", None)
    status = values.pop(":status", None)
    head.pseudo = len(values) < size or ":scheme" in values or ":protocol" in values
    head.method = method or ""
    head.target = path or ""
    if authority is not None:
        values["host"] = authority
    if status is not None and status.isascii() and status.isdigit() and len(status) == 3:
        head.status = int(status)
    content_type = values.get("content-type", "")
    if content_type.startswith(GRPC):
        head.grpc = content_type
    if unnamed:
        present = (method, path, values.get(":scheme"), authority)
        missing = [name for name, value in zip(_OF_REQUEST, present, strict=True) if value is None]
        head.of_request = _UNNAMED.union(missing)
        head.of_response = _UNNAMED if status is not None else _UNNAMED_STATUS
        head.of_trailers = _UNNAMED
    return head
