"""Whom a request is for and whom it is from, by its target and its headers: scheme, host, port, path, query; and behind
proxies the original ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from otelbpf.protocols.base import Message, StreamMessage

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""Proxies say ws and wss of the connections that are to be upgraded."""
_LONGEST_KEPT: Final = 256
"""Longer authorities are taken apart each time: no host has one, and what a stranger sends is to take no memory."""


def is_unknown(message: Message, name: str) -> bool:
    """Whether a field may be there whose value was not seen (HTTP/2, joined midway)."""
    return name in message.unknown or "" in message.unknown


def path_and_query(target: str) -> tuple[str, str]:
    """url.path and url.query of a target; both empty for authority-form."""
    if not target.startswith("/"):
        if "://" in target:
            _, _, rest = target.partition("://")
            slash = rest.find("/")
            question = rest.find("?")
            if slash < 0 or 0 <= question < slash:
                return "/", rest[question + 1 :] if question >= 0 else ""
            target = rest[slash:]
        elif target != "*":
            return "", ""
    path, _, query = target.partition("?")
    if "#" in target:
        return path.partition("#")[0], query.partition("#")[0]
    return path, query


def authority_of(request: Message, scheme: str) -> tuple[str, str, int]:
    """Scheme, host and port (0: none given) a request is for: absolute-form wins over Host (RFC 9112 section 3.2.2),
    :authority too (RFC 9113 section 8.3.1). `scheme` is that of the connection; empty is one that is not known."""
    if isinstance(request, StreamMessage):
        headers = request.headers
        scheme = headers.get(":scheme") or ("" if is_unknown(request, ":scheme") else scheme)
        return scheme, *split_authority(headers.get("host", ""))
    target = request.target
    if "://" in target and not target.startswith("/"):
        absolute, _, rest = target.partition("://")
        authority = rest.split("/", 1)[0].split("?", 1)[0].rpartition("@")[2]
        return absolute.lower(), *split_authority(authority)
    host = target if request.method == "CONNECT" else request.headers.get("host")
    return (scheme, *split_authority(host)) if host else (scheme, "", 0)


def split_authority(authority: str) -> tuple[str, int]:
    """`host[:port]` (RFC 3986 section 3.2): host without brackets, port 0 where none or no number is given."""
    return _remembered_parts(authority) if len(authority) <= _LONGEST_KEPT else _parts(authority)


def _parts(authority: str) -> tuple[str, int]:
    authority = authority.strip().rpartition("@")[2]  # user information is a secret
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    elif authority.count(":") > 1:
        return authority, 0
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number < 65536 else 0


_remembered_parts = lru_cache(4096)(_parts)


def _forwarded(headers: dict[str, str], parameter: str) -> str:
    """A parameter of the first hop of Forwarded (RFC 7239 section 4)."""
    for pair in headers.get("forwarded", "").split(",", 1)[0].split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == parameter:
            return value.strip().strip('"')
    return ""


def default_port(request: Message, scheme: str) -> int:
    """The port where none is given; 0 where that cannot be known. A tunnel has none (RFC 9110 section 9.3.6)."""
    return 0 if asks_tunnel(request) else DEFAULT_PORTS.get(scheme, 0)


def asks_tunnel(request: Message) -> bool:
    """CONNECT, but not the extended one, which has a path (RFC 8441 section 4)."""
    return request.method == "CONNECT" and not request.target.startswith("/")


def forwarded_client(headers: dict[str, str]) -> tuple[str, int]:
    """The original client, and its port or 0: Forwarded, else the first of X-Forwarded-For. A proxy may know none, or
    tell no more than a word it made up (RFC 7239 section 6)."""
    first = _forwarded(headers, "for") or headers.get("x-forwarded-for", "").split(",", 1)[0].strip()
    if not first or first.startswith("_"):
        return "", 0
    host, port = split_authority(first)
    return ("", 0) if host.lower() == "unknown" else (host, port)


def forwarded_host(headers: dict[str, str]) -> tuple[str, int]:
    """The host that the original client asked for, and its port or 0: Forwarded, else the first of
    X-Forwarded-Host."""
    first = _forwarded(headers, "host") or headers.get("x-forwarded-host", "").split(",", 1)[0]
    return split_authority(first) if first else ("", 0)


def forwarded_scheme(headers: dict[str, str]) -> str:
    """The original scheme, by the same headers."""
    first = _forwarded(headers, "proto") or headers.get("x-forwarded-proto", "").split(",", 1)[0]
    return first.strip().lower()
