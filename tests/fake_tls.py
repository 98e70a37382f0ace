"""TLS for the fake kernel: sessions whose plain text comes as the probes tell it, and real TLS made in memory."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

from otelbpf.events import encode
from otelbpf.events.wire import Flag, TlsEvent, Unseen
from tests.fake_kernel import FakeKernel, FakeSocket

_numbers = itertools.count(1)


class FakeSession:
    """A TLS session. Methods are what its application does."""

    def __init__(self, kernel: FakeKernel, *, pid: int, joined: bool = False) -> None:
        self._kernel = kernel
        self.key = encode.encode_key(0x5555_0000_0000 + 4096 * next(_numbers), kernel.now_ns)
        self.pid = pid
        self.flags = Flag.PLAIN | (Flag.JOINED if joined else Flag(0))
        self.endpoints = encode.NO_ENDPOINTS
        self.carrier = encode.NO_KEY
        self.sent = self.received = self.lost_sent = 0

    def bind(self, socket: FakeSocket) -> FakeSession:
        """A call on this socket ran within a call of the library."""
        self.endpoints, self.carrier = socket.endpoints, socket.key
        self.flags |= socket.flags & (Flag.CLIENT | Flag.SERVER)
        return self._tell(TlsEvent.BOUND)

    def write(self, data: bytes, *, lose: bool = False) -> FakeSession:
        """The application hands `data` to the library."""
        if lose:
            self.lost_sent += len(data)
        else:
            self._data(data, self.sent, Flag.SENT)
        self.sent += len(data)
        return self

    def write_in_parts(self, *parts: tuple[bytes, int]) -> FakeSession:
        """One call, told in parts: of each so many bytes are copied."""
        for number, (data, captured) in enumerate(parts):
            how = Flag.CONTINUED if number else Flag(0)
            how |= Flag.UNFINISHED if number < len(parts) - 1 else Flag(0)
            self._data(data, self.sent, Flag.SENT | how, captured=captured)
            self.sent += len(data)
        return self

    def read(self, data: bytes, *, room: int = 0) -> FakeSession:
        """The application gets `data` from it, in calls that have `room` for so much each."""
        for begin in range(0, len(data), room or len(data)):
            part = data[begin : begin + (room or len(data))]
            self._data(part, self.received, Flag.FILLED if len(part) == room else Flag(0))
            self.received += len(part)
        return self

    def shut(self) -> FakeSession:
        """It sends no more."""
        return self._tell(TlsEvent.SHUT)

    def refuse(self) -> FakeSession:
        """The peer refused the early data; the session as it goes on."""
        self._tell(TlsEvent.REFUSED)
        session = FakeSession(self._kernel, pid=self.pid, joined=True)
        session.endpoints, session.carrier = self.endpoints, encode.NO_KEY
        return session

    def free(self) -> FakeSession:
        """It needs the session no more."""
        return self._tell(TlsEvent.ENDED)

    def _data(self, data: bytes, offset: int, direction: Flag, *, captured: int | None = None) -> None:
        cut = captured is not None and captured < len(data)
        self._kernel.put(
            encode.encode_data(
                key=self.key,
                time_ns=self._kernel.tick(),
                endpoints=self.endpoints,
                offset=offset,
                data=data[:captured],
                length=len(data),
                flags=int(self.flags | direction) | (Unseen.BUDGET << 8 if cut else 0),
                pid=self.pid,
                tid=self.pid,
            )
        )

    def _tell(self, event: TlsEvent) -> FakeSession:
        self._kernel.put(
            encode.encode_tls(
                key=self.key,
                time_ns=self._kernel.tick(),
                event=event,
                endpoints=self.endpoints,
                carrier=self.carrier,
                flags=self.flags,
                sent=self.sent,
                received=self.received,
                lost_sent=self.lost_sent,
                pid=self.pid,
                tid=self.pid,
            )
        )
        return self


class End:
    """One end of real TLS in memory, driven as asyncio drives it."""

    def __init__(self, context: ssl.SSLContext, *, server: bool, session: ssl.SSLSession | None = None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "site.example"
        self.object = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name, session=session)

    def step(self) -> bytes:
        """Go on with the handshake; what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        """What is to be sent of plain text."""
        self.object.write(data)
        return self._out.read()

    def end(self) -> bytes:
        """What is to be sent at the end."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.unwrap()
        return self._out.read()

    def receive(self, data: bytes) -> None:
        """Bytes from the other end."""
        self._in.write(data)

    def decrypt(self) -> bytes:
        """The plain text of one record."""
        return self.object.read(1 << 18)


def shake_hands(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    *,
    ciphers: str = "DEFAULT",
    protocols: tuple[str, ...] = (),
    session: ssl.SSLSession | None = None,
    curve: str = "",
) -> tuple[End, End, list[tuple[bool, bytes]]]:
    """Client, server and the flights of their handshake: whether the client sent it, and its bytes. `session`: what it
    would go on from; `curve`: the only one the server takes."""
    client_context, server_context = _contexts(curve)
    for context in (client_context, server_context):
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        context.set_alpn_protocols(list(protocols))
    client, server = End(client_context, server=False, session=session), End(server_context, server=True)
    flights = []
    while True:
        from_client = client.step()
        server.receive(from_client)
        from_server = server.step()
        client.receive(from_server)
        flights += [(True, from_client)] * bool(from_client) + [(False, from_server)] * bool(from_server)
        if not from_client and not from_server:
            return client, server, flights


@cache
def _contexts(curve: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    with TemporaryDirectory() as folder:
        place = Path(folder) / "server.pem"
        authority.issue_cert("site.example").private_key_and_cert_chain_pem.write_to_path(str(place))
        server.load_cert_chain(place)
    if curve:
        server.set_ecdh_curve(curve)
    return client, server
