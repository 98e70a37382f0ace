"""Do these bytes begin an HTTP/1 message? Yes, no, or more bytes are needed to tell.

Yes is said only of a complete first line that the parser accepts, so it is proof enough to start parsing there. No is
final: no further bytes can turn it into a yes.
"""

from __future__ import annotations

import enum
import re
from typing import Final


class Verdict(enum.Enum):
    """The three answers."""

    YES = "yes"
    NO = "no"
    MORE = "more"


KNOWN_METHODS: Final = frozenset(
    (b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE")
)
"""RFC 9110 section 9.3 and RFC 5789."""

LONGEST_LINE: Final = 65536
"""A first line that is longer is none."""

_LONGEST_TLS_RECORD: Final = 16_384 + 2048  # RFC 5246 section 6.2.3

# A method of more than 32 characters is none here: real ones have at most 17 (UPDATEREDIRECTREF), and without a bound
# any word would call for more bytes. RFC 9112 section 2.2 has empty lines before a request passed over.
_METHOD: Final = rb"(?:\r?\n)*+[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}+"
_TARGET: Final = rb"[\x21-\x7e\x80-\xff]++"
_REASON: Final = rb"[^\x00\n\r\x0b\x0c]*+"
_REQUEST: Final = re.compile(_METHOD + b" " + _TARGET + rb" HTTP/1\.[0-9]\r?\n")
_RESPONSE: Final = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9]{2}(?: " + _REASON + rb")?\r?\n")


def _prefixes(*parts: bytes) -> re.Pattern[bytes]:
    """Matches what the parts in a row match, and everything that stops short of it."""
    pattern = b""
    for part in reversed(parts):
        pattern = b"(?:" + part + pattern + b")?"
    return re.compile(pattern)


_PROXY_1: Final = re.compile(rb"PROXY (?:TCP[46]|UNKNOWN)[ 0-9a-fA-F.:]{0,92}\r\n")
_PROXY_2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION: Final = (b"H", b"T", b"T", b"P", b"/", b"1", rb"\.", b"[0-9]")
_REQUEST_PREFIX: Final = _prefixes(rb"(?:\r?\n)*+(?:\r\Z)?", _METHOD, b" ", _TARGET, b" ", *_VERSION, rb"\r")
_RESPONSE_PREFIX: Final = _prefixes(*_VERSION, b" ", b"[1-9]", b"[0-9]", b"[0-9]", rb"(?: " + _REASON + rb")?\r?")


def looks_like_request(data: bytes) -> Verdict:
    """Whether `data` begins with a request line of HTTP/1.x, or with empty lines and then one."""
    return _verdict(data, _REQUEST, _REQUEST_PREFIX)


def has_known_method(data: bytes) -> bool:
    """Whether the request that `data` begins with has a method everybody knows. Where bytes before it were not seen, it
    may begin with the end of something else, and any word makes a method: of these, none is the end of another word."""
    return data.lstrip(b"\r\n").partition(b" ")[0] in KNOWN_METHODS


def behind_preamble(data: bytes) -> int:
    """Where the request may begin of what a client's connection begins with: a proxy may tell of its own client first
    (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, versions 1 and 2)."""
    if data.startswith(_PROXY_2) and len(data) >= len(_PROXY_2) + 4:
        return min(len(_PROXY_2) + 4 + int.from_bytes(data[len(_PROXY_2) + 2 : len(_PROXY_2) + 4]), len(data))
    first = _PROXY_1.match(data)
    return first.end() if first else 0


def begins_tls_record(data: bytes) -> bool:
    """Whether `data` begins with the header of a TLS record (RFC 8446 section 5.1): type, version, length."""
    return (
        len(data) >= 5
        and 20 <= data[0] <= 23
        and data[1] == 3
        and data[2] <= 4
        and 0 < int.from_bytes(data[3:5], "big") <= _LONGEST_TLS_RECORD
    )


def looks_like_response(data: bytes) -> Verdict:
    """Whether `data` begins with a status line of HTTP/1.x."""
    return _verdict(data, _RESPONSE, _RESPONSE_PREFIX)


def _verdict(data: bytes, whole: re.Pattern[bytes], prefix: re.Pattern[bytes]) -> Verdict:
    if whole.match(data, 0, LONGEST_LINE):
        return Verdict.YES
    if len(data) < LONGEST_LINE and prefix.fullmatch(data):
        return Verdict.MORE
    return Verdict.NO
