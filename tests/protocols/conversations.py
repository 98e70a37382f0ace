"""Valid HTTP/1 conversations for the tests, written and told by h11: the parser under test has no part in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import h11
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from otelbpf.protocols.base import Gap, Message, ProtocolError, Side
from otelbpf.protocols.http1 import Http1
from otelbpf.protocols.http1_head import NEEDED, WANTED

KEPT = WANTED | NEEDED

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For a busy machine: how long an example takes says nothing about what it finds."""


@dataclass
class Burst:
    """Requests sent without waiting, then their responses."""

    client: bytes
    server: bytes
    requests: int = 1


@dataclass
class Conversation:
    """Bursts, and every message that is in them."""

    bursts: list[Burst] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    closes: bool = False
    """The server's close ends the last response."""

    def of(self, side: Side) -> dict[int, Message]:
        """The messages of a side by where they begin."""
        return {message.begin: message for message in self.messages if message.side is side}


@dataclass
class Exchange:
    """What a test asks h11 to write."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    pieces: list[bytes]
    """Of the request's body."""
    chunked: bool
    interim: list[int]
    status: int
    answer_headers: list[tuple[str, str]]
    answer: list[bytes]
    answer_framing: str
    trailers: list[tuple[str, str]]


_words = st.text("abcXYZ019-_./ ", min_size=1, max_size=12).map(str.strip)
_header = st.tuples(
    st.sampled_from(["User-Agent", "traceparent", "X-Forwarded-For", "Accept", "x-a", "Content-Type", "Cookie"]), _words
)
_pieces = st.lists(st.binary(min_size=1, max_size=40) | st.just(b"0\r\n") | st.just(b"GET / HTTP/1.1"), max_size=4)

exchanges = st.builds(
    Exchange,
    method=st.sampled_from(["GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"]),
    target=st.sampled_from(["/", "/a?b=c", "*", "http://h:8/x", "/" + "long/" * 30]),
    headers=st.lists(_header, max_size=5),
    pieces=_pieces,
    chunked=st.booleans(),
    interim=st.lists(st.sampled_from([100, 102, 103]), max_size=2),
    status=st.sampled_from([200, 200, 201, 204, 304, 404, 500, 599, 999]),
    answer_headers=st.lists(_header, max_size=4),
    answer=_pieces,
    answer_framing=st.sampled_from(["length", "chunked"]),
    trailers=st.lists(st.tuples(st.sampled_from(["X-T", "Checksum"]), _words), max_size=2),
)


def text(value: bytes) -> str:
    """UTF-8 if it is that, else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def kept(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as a message has them."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name.decode() in KEPT:
            found.setdefault(name.decode(), []).append(text(value))
    return {name: ", ".join(values) for name, values in found.items()}


def _write(exchange: Exchange) -> tuple[bytes, Message, bytes, int, Message]:
    """Request, what it is, response, where the final one begins, what it is; offsets from zero."""
    client, server = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER)
    size = sum(map(len, exchange.pieces))
    framing = ("Transfer-Encoding", "chunked") if exchange.chunked else ("Content-Length", str(size))
    own = [framing] if exchange.pieces or exchange.chunked else []
    question = h11.Request(
        method=exchange.method, target=exchange.target, headers=[("Host", "h:80"), *own, *exchange.headers]
    )
    request_head = client.send(question)
    request = request_head + b"".join(client.send(h11.Data(data=piece)) for piece in exchange.pieces)
    request += client.send(h11.EndOfMessage(headers=exchange.trailers if exchange.chunked else []))
    server.receive_data(request)
    while not isinstance(server.next_event(), h11.EndOfMessage):
        continue
    answer_size = sum(map(len, exchange.answer))
    own = [("Content-Length", str(answer_size))] if exchange.answer_framing == "length" else []
    response = b"".join(
        server.send(h11.InformationalResponse(status_code=status, headers=[("Link", "x")]))
        for status in exchange.interim
    )
    begin = len(response)
    # h11 writes a body only where one is allowed, and the framing the status and the method call for.
    response_head = server.send(
        h11.Response(status_code=exchange.status, reason="R", headers=[*own, *exchange.answer_headers])
    )
    bodiless = exchange.method == "HEAD" or exchange.status in (204, 304)
    response += response_head
    if not bodiless:
        response += b"".join(server.send(h11.Data(data=piece)) for piece in exchange.answer)
    chunked = exchange.answer_framing == "chunked" and not bodiless
    response += server.send(h11.EndOfMessage(headers=exchange.trailers if chunked else []))
    client.receive_data(response)
    while not isinstance(answer := client.next_event(), h11.Response):
        continue
    asked = Message(
        Side.CLIENT,
        0,
        len(request_head),
        exchange.method,
        exchange.target,
        0,
        "1.1",
        kept(question.headers),
        len(request),
        size,
    )
    told = Message(
        Side.SERVER,
        begin,
        begin + len(response_head),
        exchange.method,
        "",
        exchange.status,
        "1.1",
        kept(answer.headers),
        len(response),
        0 if bodiless else answer_size,
    )
    return request, asked, response, begin, told


def build(bursts: list[list[Exchange]], last_body: bytes | None = None) -> Conversation:
    """Bursts in a row; with `last_body`, a last exchange whose response the close ends."""
    conversation = Conversation()
    offsets = [0, 0]
    for burst in bursts:
        client = server = b""
        answers: list[Message] = []
        for exchange in burst:
            request, asked, response, _, told = _write(exchange)
            for message, start in ((asked, offsets[0] + len(client)), (told, offsets[1] + len(server))):
                message.begin += start
                message.head_end += start
                message.end += start
            conversation.messages.append(asked)
            answers.append(told)
            client += request
            server += response
        conversation.messages += answers
        conversation.bursts.append(Burst(client, server, len(burst)))
        offsets = [offsets[0] + len(client), offsets[1] + len(server)]
    if last_body is not None:
        request, head = b"GET /last HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"
        a, b = offsets
        conversation.messages += [
            Message(Side.CLIENT, a, a + len(request), "GET", "/last", 0, "1.0", {}, a + len(request), 0),
            Message(
                Side.SERVER,
                b,
                b + len(head),
                "GET",
                "",
                200,
                "1.0",
                {},
                b + len(head) + len(last_body),
                len(last_body),
            ),
        ]
        conversation.bursts.append(Burst(request, head + last_body))
        conversation.closes = True
    return conversation


conversations = st.builds(
    build,
    st.lists(st.lists(exchanges, min_size=1, max_size=3), min_size=1, max_size=3),
    st.none() | st.binary(max_size=30),
)
"""Up to three bursts of up to three exchanges, and perhaps a response that the close ends."""

cuts = st.lists(st.integers(0, 600), max_size=12)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """`data` cut at some offsets; no piece is empty."""
    edges = [0, *sorted(edge for edge in at if edge < len(data)), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


def gap(size: int, tail: bytes = b"") -> Gap:
    """Bytes left out deliberately."""
    return Gap(size, deliberate=True, tail=tail)


def lost(size: int) -> Gap:
    """Bytes nobody left out."""
    return Gap(size, deliberate=False)


class Listener:
    """A parser, and what it announced: each message once, with its values as they were when it was announced last."""

    def __init__(self, parser: Http1 | None = None) -> None:
        self.parser = parser or Http1()
        self.messages: list[Message] = []
        self.error: ProtocolError | None = None

    def receive(self, side: Side, data: bytes) -> Listener:
        """Feed bytes; an error ends it."""
        return self.take(lambda: self.parser.receive(side, data))

    def take(self, act: object) -> Listener:
        """Do what makes announcements; an error ends it."""
        if self.error is None:
            try:
                found = act()  # type: ignore[operator]
            except ProtocolError as error:
                self.error = error
                found = error.messages
            for message in found:
                self._note(message)
        return self

    def close(self) -> Listener:
        """Both sides end, the client first."""
        for side in Side:
            self.take(lambda side=side: self.parser.close(side))
        return self

    def _note(self, message: Message) -> None:
        known = any(message is other for other in self.messages)
        # Twice at most: the second time with its end.
        assert not known or message.end >= 0, message
        if not known:
            self.messages.append(message)
