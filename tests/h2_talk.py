"""Both ends of an HTTP/2 conversation, made by hyper-h2, whose bytes go through sockets of the fake kernel.

    talk = Talk(kernel)                       # the server's socket is traced; client=True: the client's; both: both
    number = talk.ask("/1", body=b"x")
    talk.answer(number, 200, b"y" * 10)

What one method of an end makes is written in one call; `cut` makes the pieces smaller, `held` keeps them for later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hpack import HeaderTuple

from tests.fake_kernel import FakeKernel, FakeSocket

Headers = Iterable[tuple[str, str]] | Iterable[HeaderTuple]
"""A tuple of hpack's says how it is to be encoded."""
Record = tuple[bool, bytes]
"""Whether the client sent it, and what."""


class Talk:
    """One connection."""

    def __init__(
        self,
        kernel: FakeKernel | None,
        *,
        client: bool = False,
        both: bool = False,
        joined: bool = False,
        cut: int = 0,
        greet: bool = True,
        port: int = 40000,
    ) -> None:
        """Without a kernel nothing is recorded but in `told`."""
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.asking: FakeSocket | None = None
        self.serving: FakeSocket | None = None
        self.cut = cut
        self.told: list[Record] = []
        self.muted = False
        """What is said is not seen."""
        self.how: dict[str, object] = {}
        """How the next calls are recorded: lose, captured."""
        if kernel is not None:
            if both:
                self.asking, self.serving = kernel.pair(port=port)
            elif client:
                self.asking = kernel.connect(joined=joined, port=port)
            else:
                self.serving = kernel.accept(joined=joined, peer_port=port)
        if greet:
            self.greet()

    @property
    def socket(self) -> FakeSocket:
        """The one that is traced."""
        socket = self.serving or self.asking
        assert socket is not None
        return socket

    def greet(self) -> None:
        """Prefaces and settings of both ends."""
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.flush()
        self.flush()

    def flush(self) -> None:
        """Everything said goes over the wire."""
        self._carry(True)
        self._carry(False)

    def say(self, from_client: bool, data: bytes) -> None:
        """Bytes over the wire; what the other end makes of them is not asked."""
        step = self.cut or max(len(data), 1)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self.told.append((from_client, piece))
            if not self.muted:
                play(piece, from_client, self.asking, self.serving, **self.how)

    def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        end: bool = True,
        headers: Headers = (),
    ) -> int:
        """A request; returns its stream."""
        number = self.client.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path), *headers]
        self.client.send_headers(number, fields, end_stream=end and body is None)
        if body is not None:
            self.client.send_data(number, body, end_stream=end)
        self._carry(True)
        return number

    def answer(
        self,
        number: int,
        status: int = 200,
        body: bytes | None = None,
        *,
        end: bool = True,
        headers: Headers = (),
        trailers: Headers = (),
    ) -> None:
        """A response to the request of a stream."""
        fields = [(":status", str(status)), *headers]
        self.server.send_headers(number, fields, end_stream=end and body is None and not trailers)
        if body is not None:
            self.server.send_data(number, body, end_stream=end and not trailers)
        if trailers:
            self.server.send_headers(number, list(trailers), end_stream=True)
        self._carry(False)

    def more(self, number: int, body: bytes, *, from_client: bool = True, end: bool = False) -> None:
        """More content."""
        (self.client if from_client else self.server).send_data(number, body, end_stream=end)
        self._carry(from_client)

    def reset(self, number: int, code: int, *, by_client: bool = True) -> None:
        """RST_STREAM."""
        (self.client if by_client else self.server).reset_stream(number, code)
        self._carry(by_client)

    def set_table(self, size: int, *, by_client: bool) -> None:
        """SETTINGS_HEADER_TABLE_SIZE."""
        (self.client if by_client else self.server).update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        self._carry(by_client)
        self.flush()

    def _carry(self, from_client: bool) -> None:
        source, sink = (self.client, self.server) if from_client else (self.server, self.client)
        data = source.data_to_send()
        if data:
            self.say(from_client, data)
            sink.receive_data(data)


def play(data: bytes, from_client: bool, asking: FakeSocket | None, serving: FakeSocket | None, **how: object) -> None:
    """A call at each end that is traced, the sender first."""
    calls: list[Callable[..., object]] = []
    if asking is not None:
        calls.append(asking.send if from_client else asking.receive)
    if serving is not None:
        calls.append(serving.receive if from_client else serving.send)
    for call in calls if from_client else reversed(calls):
        call(data, **how)
