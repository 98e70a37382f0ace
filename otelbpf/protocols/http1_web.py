"""gRPC-Web in HTTP/1: the only messages whose bodies are read, for nothing else says how a call ended."""

from __future__ import annotations

from otelbpf.protocols.base import Message, Side, WebMessage
from otelbpf.protocols.grpc import WEB, Parts, parts_of
from otelbpf.protocols.http1_body import Body


def message_of(
    side: Side, begin: int, end: int, method: str, target: str, status: int, version: str, headers: dict[str, str]
) -> Message:
    """The message that has this head."""
    content_type = headers.get("content-type")
    if content_type is not None and content_type.startswith(WEB):
        return WebMessage(side, begin, end, method, target, status, version, headers)
    return Message(side, begin, end, method, target, status, version, headers)


def content_of(message: WebMessage, length: int) -> Parts | None:
    """What reads its body, of `length` bytes or framed otherwise; None where there is none to read."""
    if length:
        return parts_of(message.headers["content-type"])
    message.parts = 0
    return None


def take_content(message: WebMessage, body: Body | None) -> None:
    """The message has ended, or will be told no more of."""
    if body is not None and body.content is not None:
        message.parts = body.content.count
        message.trailers = body.content.trailers()
