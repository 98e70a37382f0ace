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
_CHANGE_CIPHER_SPEC, _HANDSHAKE, _APPLICATION = 20, 22, 23
_TYPES: Final = (20, 21, 22, 23)
_CLIENT_HELLO, _SERVER_HELLO, _NEW_SESSION_TICKET = 1, 2, 4
_FULL: Final = (11, 12, 14)
"""Certificate, ServerKeyExchange, ServerHelloDone: of a new session one follows (RFC 5246 section 7.3)."""
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3)."""
_LONGEST: Final = 16_384 + 2048  # RFC 5246 section 6.2.3
_SERVER_NAME, _ALPN, _PRE_SHARED_KEY, _SUPPORTED_VERSIONS = 0, 16, 41, 43
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
    """Whether it goes on from an earlier session. Not known where the server asked for another ClientHello, nor of a
    key that may have been agreed on elsewhere."""


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

    __slots__ = ("_ages", "_bytes", "_offered", "_over", "_server_name", "negotiated")

    def __init__(self) -> None:
        self._bytes = {True: b"", False: b""}  # by whether it was sent by this end
        self._over = {True: False, False: False}
        self._server_name = ""
        self._offered: list[str] = []
        self._ages: list[int] = []
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
        messages, kind = _messages(self._bytes[sent])
        try:
            over = self._read(messages, kind)
        except _DEFECTS:
            over = True
        if over or len(self._bytes[sent]) > MAX_BYTES:
            self._over[sent] = True
            self._bytes[sent] = b""

    def _read(self, messages: bytes, kind: int) -> bool:
        """The messages of one side, and what kind of record follows them; whether that is all there is to learn."""
        size = 4 + int.from_bytes(messages[1:4], "big")
        if len(messages) < max(size, 4):
            return bool(kind)
        if messages[0] == _CLIENT_HELLO:
            self._client(dpkt.ssl.TLSClientHello(messages[4:size]))
        elif messages[0] == _SERVER_HELLO:
            self._server(dpkt.ssl.TLSServerHello(messages[4:size]))
            if self.negotiated.version != "1.3":
                return self._goes_on(messages[size : size + 1], kind)
        return True

    def _goes_on(self, following: bytes, kind: int) -> bool:
        """TLS 1.2: an abbreviated handshake has no certificates (RFC 5246 section 7.3, RFC 5077 section 3.1)."""
        if not following and not kind:
            return False
        resumed = None
        if following in (b"", bytes([_NEW_SESSION_TICKET])):
            resumed = True if following or kind == _CHANGE_CIPHER_SPEC else None
        elif following[0] in _FULL:
            resumed = False
        self.negotiated = msgspec.structs.replace(self.negotiated, resumed=resumed)
        return True

    def _client(self, hello: dpkt.ssl.TLSClientHello) -> None:
        extensions = dict(getattr(hello, "extensions", ()))
        self._offered = _protocols(extensions.get(_ALPN, b""))
        self._server_name = _host(extensions.get(_SERVER_NAME, b""))
        self._ages = _ages(extensions.get(_PRE_SHARED_KEY, b""))
        self.negotiated = msgspec.structs.replace(self.negotiated, server_name=self._server_name)

    def _server(self, hello: dpkt.ssl.TLSServerHello) -> None:
        extensions = dict(getattr(hello, "extensions", ()))
        version = hello.version
        if _SUPPORTED_VERSIONS in extensions:
            version = int.from_bytes(extensions[_SUPPORTED_VERSIONS], "big")
        told = _protocols(extensions.get(_ALPN, b""))
        resumed = None
        if version == 0x0304:
            told = self._offered if len(self._offered) == 1 else told
            resumed = self._goes_on_by_key(hello.random, extensions.get(_PRE_SHARED_KEY))
        self.negotiated = Negotiated(
            name="ssl" if version == 0x0300 else "tls",
            version=_VERSIONS.get(version, ""),
            cipher=str(hello.ciphersuite.name),
            server_name=self._server_name,
            protocol=told[0].lower() if told else "",
            resumed=resumed,
        )

    def _goes_on_by_key(self, random: bytes, chosen: bytes | None) -> bool | None:
        """TLS 1.3: by the key the server chose among those offered. One agreed on elsewhere has no age (RFC 8446
        section 4.2.11)."""
        if random == _RETRY:
            return None
        if chosen is None:
            return False
        return True if self._ages[int.from_bytes(chosen, "big")] else None


def _messages(data: bytes) -> tuple[bytes, int]:
    """The handshake messages, over however many records, and the type of the record behind them; 0: none yet."""
    messages = b""
    at = 0
    while at + _RECORD.size <= len(data):
        kind, _, length = _RECORD.unpack_from(data, at)
        if kind != _HANDSHAKE:
            return messages, kind or -1
        messages += data[at + _RECORD.size : at + _RECORD.size + length]
        at += _RECORD.size + length
    return messages, 0


def _ages(extension: bytes) -> list[int]:
    """RFC 8446 section 4.2.11: of each key offered, a name with its length, and its obfuscated age."""
    ages = []
    at, end = 2, 2 + int.from_bytes(extension[:2], "big")
    while at + 2 <= min(end, len(extension)):
        at += 2 + int.from_bytes(extension[at : at + 2], "big")
        ages.append(int.from_bytes(extension[at : at + 4], "big"))
        at += 4
    return ages


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
