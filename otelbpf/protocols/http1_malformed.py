"""Requests that are none by the rules, and answered all the same: with 400, mostly, behind which the connection ends.

What is asked can be told as far as the first line is that of a request. Where it ends cannot. But responses come in the
order of requests (RFC 9112 section 9.3.2): the next one that is owed to nobody before it is its answer.
"""

from __future__ import annotations

from otelbpf.protocols.base import Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.http1_head import Heads


def read_malformed(heads: Heads, begin: int, known: bytes) -> Message | None:
    """The request that `begins` there, with `known` of it; without a method where its first line is none. None where
    it may be a HEAD: whether its answer has a body depends on how much of it the server has understood."""
    if known.startswith(b"HEAD"):
        return None
    method = target = version = ""
    line, newline, _ = known.partition(b"\n")
    if newline:
        try:
            method, target, version, _, _, _ = heads.request(line.removesuffix(b"\r") + b"\r\n\r\n")
        except ProtocolError:
            method = target = version = ""
    return Message(Side.CLIENT, begin, begin, method, target, 0, version, {}, incomplete=Incomplete.MALFORMED)
