"""What a TLS handshake says in the clear: server name, version, cipher, protocol on top (RFC 5246, RFC 8446).

Bytes of both sides are fed as the socket had them; nothing they hold raises.
"""

from __future__ import annotations

import struct
from typing import Final

import dpkt
import msgspec

MAX_BYTES: Final = 16_384
"""Of one side: a ClientHello with many key shares, or a server's flight up to its ServerHello, is far shorter."""
_RECORD: Final = struct.Struct(">BHH")  # type, version, length
_HANDSHAKE, _APPLICATION = 22, 23
_TYPES: Final = (20, 21, 22, 23)
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_LONGEST: Final = 16_384 + 2048  # RFC 5246 section 6.2.3
_SERVER_NAME, _ALPN, _PRE_SHARED_KEY, _SUPPORTED_VERSIONS = 0, 16, 41, 43
_ASKS_AGAIN: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest (RFC 8446 section 4.1.3), which is none yet."""
_VERSIONS: Final = {0x0300: "3", 0x0301: "1", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_DEFECTS: Final = (dpkt.Error, struct.error, IndexError, ValueError)


class Negotiated(msgspec.Struct, frozen=True):
    """What both sides agreed on; empty where it was not seen."""

    name: str = ""
    """tls.protocol.name: tls or ssl"""
    version: str = ""
    """tls.protocol.version: 1.2, 1.3, …"""
    cipher: str = ""
    server_name: str = ""
    """That the client asked for."""
    protocol: str = ""
    """tls.next_protocol, by ALPN. TLS 1.3 says it only encrypted; then it is known where the client left no choice."""
    resumed: bool | None = None
    """tls.resumed; None where it was not seen."""


def application_lengths(data: bytes) -> list[int]:
    """Lengths of the encrypted records that begin in `data`, whose first byte is the first of a record."""
    lengths = []
    at = 0
    while at + _RECORD.size <= len(data):
        kind, version, length = _RECORD.unpack_from(data, at)
        if kind not in _TYPES or not 0x0300 <= version <= 0x0304 or length > _LONGEST:
            break
        if kind == _APPLICATION:
            lengths.append(length)
        at += _RECORD.size + length
    return lengths


class Handshake:
    """Reads the two hellos of one connection."""

    __slots__ = ("_bytes", "_offered", "_over", "_server_name", "_session", "negotiated")

    def __init__(self) -> None:
        self._bytes = {True: b"", False: b""}  # by whether it was sent by this end
        self._over = {True: False, False: False}
        self._server_name = ""
        self._offered: list[str] = []
        self._session: bytes | None = None
        """What the client called the session it would resume; it may be any word."""
        self.negotiated = Negotiated()

    @property
    def over(self) -> bool:
        """Nothing more will be learnt."""
        return self._over[True] and self._over[False]

    def give_up(self) -> None:
        """Bytes are missing."""
        self._over = {True: True, False: True}
        self._bytes = {True: b"", False: b""}

    def take(self, sent: bool, data: bytes) -> None:
        """The next bytes of one direction."""
        if self._over[sent]:
            return
        self._bytes[sent] += data
        message = _first_message(self._bytes[sent])
        if message is None and len(self._bytes[sent]) <= MAX_BYTES:
            return
        self._over[sent] = True
        self._bytes[sent] = b""
        try:
            if message and message[0] == _CLIENT_HELLO:
                self._client(dpkt.ssl.TLSClientHello(message[4:]))
            elif message and message[0] == _SERVER_HELLO:
                self._server(dpkt.ssl.TLSServerHello(message[4:]))
        except _DEFECTS:
            return

    def _client(self, hello: dpkt.ssl.TLSClientHello) -> None:
        extensions = dict(getattr(hello, "extensions", ()))
        self._offered = _protocols(extensions.get(_ALPN, b""))
        self._server_name = _host(extensions.get(_SERVER_NAME, b""))
        self._session = hello.session_id
        self.negotiated = msgspec.structs.replace(self.negotiated, server_name=self._server_name)

    def _server(self, hello: dpkt.ssl.TLSServerHello) -> None:
        extensions = dict(getattr(hello, "extensions", ()))
        version = hello.version
        if _SUPPORTED_VERSIONS in extensions:
            version = int.from_bytes(extensions[_SUPPORTED_VERSIONS], "big")
        told = _protocols(extensions.get(_ALPN, b""))
        if version == 0x0304 and len(self._offered) == 1:
            told = self._offered
        self.negotiated = Negotiated(
            name="ssl" if version == 0x0300 else "tls",
            version=_VERSIONS.get(version, ""),
            cipher=str(hello.ciphersuite.name),
            server_name=self._server_name,
            protocol=told[0].lower() if told else "",
            resumed=self._is_resumed(hello, extensions, version),
        )

    def _is_resumed(self, hello: dpkt.ssl.TLSServerHello, extensions: dict[int, bytes], version: int) -> bool | None:
        """The server says so by a key that both have (RFC 8446 section 2.2), before TLS 1.3 by calling the session as
        the client did (RFC 5246 section 7.4.1.3, RFC 5077 section 3.4)."""
        if self._session is None or hello.random == _ASKS_AGAIN:
            return None
        if version >= 0x0304:
            return _PRE_SHARED_KEY in extensions
        return bool(hello.session_id) and hello.session_id == self._session


def _first_message(data: bytes) -> bytes | None:
    """The first handshake message, over however many records; None: not all of it is there. Empty: there is none."""
    message = b""
    at = 0
    while at + _RECORD.size <= len(data):
        kind, _, length = _RECORD.unpack_from(data, at)
        if kind != _HANDSHAKE:
            return b""
        message += data[at + _RECORD.size : at + _RECORD.size + length]
        at += _RECORD.size + length
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return message[: 4 + int.from_bytes(message[1:4], "big")]
    return None


def _protocols(extension: bytes) -> list[str]:
    """RFC 7301 section 3.1: a list of names, each with a length."""
    names = []
    rest = extension[2:]
    while rest:
        names.append(rest[1 : 1 + rest[0]].decode("ascii", "replace"))
        rest = rest[1 + rest[0] :]
    return names


def _host(extension: bytes) -> str:
    """RFC 6066 section 3: a list, of which there is only one kind: host_name."""
    if len(extension) < 5 or extension[2]:
        return ""
    length = int.from_bytes(extension[3:5], "big")
    return extension[5 : 5 + length].decode("ascii", "replace")
