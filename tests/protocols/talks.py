"""Conversations that hyper-h2 writes, and what a listener must make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hypothesis import strategies as st

from otelbpf.protocols.base import Message, ProtocolError, Side, StreamMessage
from otelbpf.protocols.http1_head import WANTED
from otelbpf.protocols.http2 import Http2
from otelbpf.protocols.http2_head import OWN

Fields = list[tuple[str, str]]
CLIENT, SERVER = Side
KEPT = WANTED | OWN


def kept(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The headers of a message whose fields these are."""
    found: dict[str, str] = {}
    for name, value in fields:
        if name == ":authority":
            found["host"] = value
        elif name in (":scheme", ":protocol") or (name in KEPT and name[0] != ":"):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


@dataclass
class Talk:
    """Two ends that speak to each other; what each sent, call by call, and the messages in it."""

    client: H2Connection = field(
        default_factory=lambda: H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    )
    server: H2Connection = field(
        default_factory=lambda: H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    )
    pieces: list[tuple[Side, bytes]] = field(default_factory=list)
    messages: list[StreamMessage] = field(default_factory=list)
    """In the order in which they began."""
    open: dict[tuple[Side, int], StreamMessage] = field(default_factory=dict)
    sent: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.ends = (self.client, self.server)
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Carry what each end wants to send to the other, until neither wants to."""
        while any(self._carry(side) for side in Side):
            continue

    def _carry(self, side: Side) -> bool:
        data = self.ends[side].data_to_send()
        if data:
            self.pieces.append((side, data))
            self.sent[side] += len(data)
            self.ends[1 - side].receive_data(data)
        return bool(data)

    def head(self, side: Side, stream: int, fields: Fields, *, end: bool = False) -> StreamMessage:
        """A request or a final response begins."""
        begin = self.sent[side]
        self.ends[side].send_headers(stream, fields, end_stream=end)
        self._carry(side)
        pseudo = dict(fields)
        asked = next((m for m in self.messages if m.stream == stream), None)
        message = StreamMessage(
            side,
            begin,
            self.sent[side],
            pseudo.get(":method", "") if asked is None else asked.method,
            pseudo.get(":path", ""),
            int(pseudo.get(":status", "0")),
            "2",
            kept(fields),
            stream=stream,
        )
        self.messages.append(message)
        self.open[side, stream] = message
        message.body_size = 0
        if kept(fields).get("content-type", "").startswith("application/grpc"):
            message.parts = 0
        if end:
            self.finish(side, stream)
        return message

    def interim(self, stream: int, status: int) -> None:
        """A response that is not the final one."""
        self.server.send_headers(stream, [(":status", str(status)), ("link", "</x>")])
        self._carry(Side.SERVER)

    def data(self, side: Side, stream: int, data: bytes, *, end: bool = False, padding: int | None = None) -> None:
        """Content."""
        self.ends[side].send_data(stream, data, end_stream=end, pad_length=padding)
        self._carry(side)
        self.open[side, stream].body_size += len(data)
        if end:
            self.finish(side, stream)

    def trailers(self, side: Side, stream: int, fields: Fields) -> None:
        """What ends a message behind its content."""
        self.ends[side].send_headers(stream, fields, end_stream=True)
        self._carry(side)
        self.open[side, stream].trailers = kept(fields)
        self.finish(side, stream)

    def finish(self, side: Side, stream: int) -> None:
        """The side's message on the stream ends with what it sent last."""
        self.open.pop((side, stream)).end = self.sent[side]

    def reset(self, side: Side, stream: int, code: int) -> None:
        """RST_STREAM."""
        self.ends[side].reset_stream(stream, code)
        self._carry(side)
        found = False
        for each in Side:
            if (each, stream) in self.open:
                self.open[each, stream].reset = code
                self.finish(each, stream)
                found = True
        if not found:
            next(m for m in self.messages if m.stream == stream).reset = code

    def settings(self, side: Side, values: dict[SettingCodes | int, int]) -> None:
        """Change settings; the other end acknowledges."""
        self.ends[side].update_settings(values)
        self.flush()


class Listener:
    """A parser, and what it announced: each message once, with its values as they were when it was announced last."""

    def __init__(self, parser: Http2 | None = None) -> None:
        self.parser = parser or Http2()
        self.messages: list[StreamMessage] = []
        self.error: ProtocolError | None = None

    def hear(self, pieces: Sequence[tuple[Side, bytes]]) -> Listener:
        """Feed bytes; an error ends it."""
        for side, data in pieces:
            self.take(lambda side=side, data=data: self.parser.receive(side, data))
        return self

    def take(self, act: object) -> Listener:
        """Do what makes announcements; an error ends it."""
        if self.error is None:
            try:
                found: Sequence[Message] = act()  # type: ignore[operator]
            except ProtocolError as error:
                self.error = error
                found = error.messages
            assert len({id(message) for message in found}) == len(found), "announced twice in one call"
            for message in found:
                assert isinstance(message, StreamMessage)
                if not any(message is other for other in self.messages):
                    self.messages.append(message)
        return self


@dataclass(frozen=True)
class Plan:
    """What happens on a stream."""

    method: str
    path: str
    kind: str
    """Content type of both messages; that of gRPC has its messages in the content."""
    upload: tuple[bytes, ...]
    status: int
    download: tuple[bytes, ...]
    interims: int
    trailers: bool
    padding: int | None
    reset: Side | None
    """Who resets the stream when everything else but the last of the response was sent."""
    extra: tuple[tuple[str, str], ...]


texts = st.text("abcdefgh/%0123456789-", min_size=1, max_size=30)
plans = st.builds(
    Plan,
    st.sampled_from(["GET", "POST", "PUT", "CONNECT"]),
    texts.map(lambda text: "/" + text),
    st.sampled_from(["text/plain", "application/grpc", "application/grpc+proto", ""]),
    st.lists(st.binary(max_size=300), max_size=3).map(tuple),
    st.sampled_from([200, 204, 302, 404, 500, 503]),
    st.lists(st.binary(max_size=300), max_size=3).map(tuple),
    st.integers(0, 2),
    st.booleans(),
    st.none() | st.integers(0, 255),
    st.none() | st.none() | st.sampled_from(Side),
    st.lists(
        st.tuples(st.sampled_from(["x-forwarded-for", "traceparent", "user-agent", "x-other", "cookie"]), texts),
        max_size=3,
        unique_by=lambda pair: pair[0],
    ).map(tuple),
)


def client_acts(talk: Talk, plan: Plan, stream: int) -> Iterator[None]:
    """One step of the client at a time."""
    fields = [(":method", plan.method), (":authority", "h:1")]
    if plan.method != "CONNECT":
        fields += [(":path", plan.path), (":scheme", "http")]
    if plan.kind:
        fields.append(("content-type", plan.kind))
    talk.head(CLIENT, stream, [*fields, *plan.extra], end=not plan.upload)
    yield from _content(talk, CLIENT, plan, stream, plan.upload, last=bool(plan.upload))


def server_acts(talk: Talk, plan: Plan, stream: int) -> Iterator[None]:
    """One step of the server at a time; it begins when the request has."""
    for i in range(plan.interims):
        talk.interim(stream, 100 + i)
        yield
    fields = [(":status", str(plan.status)), *plan.extra]
    if plan.kind:
        fields.append(("content-type", plan.kind))
    message = talk.head(SERVER, stream, fields, end=not (plan.download or plan.trailers or plan.reset is not None))
    message.upgrade = plan.method == "CONNECT" and plan.status < 300
    yield
    if plan.reset is not None:
        yield from _content(talk, SERVER, plan, stream, plan.download, last=False)
        talk.reset(plan.reset, stream, 8)
        return
    yield from _content(talk, SERVER, plan, stream, plan.download, last=bool(plan.download) and not plan.trailers)
    if plan.trailers:
        talk.trailers(SERVER, stream, [("x-forwarded-for", "trailer"), ("grpc-status", "0")])


def _content(talk: Talk, side: Side, plan: Plan, stream: int, parts: Sequence[bytes], *, last: bool) -> Iterator[None]:
    for i, part in enumerate(parts):
        yield
        if (side, stream) not in talk.open:
            return  # reset
        data = part
        if plan.kind.startswith("application/grpc"):
            data = b"\0" + len(part).to_bytes(4) + part
            talk.open[side, stream].parts += 1
        talk.data(side, stream, data, end=last and i == len(parts) - 1, padding=plan.padding)


def build(each: Sequence[Plan], order: Sequence[int]) -> Talk:
    """Every plan on a stream of its own, a step at a time of whichever the numbers choose."""
    talk = Talk()
    waiting = list(enumerate(each))
    acting: list[Iterator[None]] = []
    turn = 0
    while waiting or acting:
        choice = order[turn % len(order)] % (len(acting) + bool(waiting))
        turn += 1
        if choice == len(acting):
            number, plan = waiting.pop(0)
            stream = 2 * number + 1
            acts = client_acts(talk, plan, stream)
            if next(acts, acts) is None:
                acting.append(acts)
            acting.append(server_acts(talk, plan, stream))
        elif next(acting[choice], acting) is acting:
            acting.pop(choice)
    return talk


conversations = st.builds(
    build, st.lists(plans, min_size=1, max_size=6), st.lists(st.integers(0, 12), min_size=1, max_size=30)
)
"""Up to six streams at once, interleaved."""
