"""Takes secrets out of URLs before anything else sees them.

The values of secret-looking query keys become REDACTED, as the HTTP semantic conventions ask for known signatures
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/, url.query); user information in a URL likewise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final
from urllib.parse import unquote_plus

REDACTED: Final = "REDACTED"

SECRET_KEYS: Final = (
    # Named by the semantic conventions.
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    # What applications call their secrets; matched as whole words of the key (access_token, api-key, userPassword).
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "apikey",
    "api_key",
    "key",
    "auth",
    "authorization",
    "credential",
    "credentials",
    "session",
    "sessionid",
    "jsessionid",
    "phpsessid",
    "sid",
    "jwt",
    "bearer",
    "code",
    "otp",
    "assertion",
    "ticket",
)
"""Default list of secret-looking query keys."""

_SECRET_HEADERS: Final = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#]*@")
_MAX_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 256
"""Longer keys are judged each time: what a stranger sends is to take no memory."""
_MAX_LAYERS: Final = 3
"""How often a text may be percent-encoded over: a URL within a URL within a URL."""
_SEPARATORS: Final = re.compile("([;?])")
"""Within a pair: parameters, and the query of a URL that stands there as it is."""
_NESTED: Final = re.compile("[?&;#/]")


class Redactor:
    """Decides by the key, remembers the decision: services use few keys."""

    __slots__ = ("_known", "_secret")

    def __init__(self, secret_keys: Iterable[str] = SECRET_KEYS) -> None:
        self._secret = frozenset(key.lower() for key in secret_keys)
        self._known: dict[str, bool] = {}

    def query(self, query: str) -> str:
        """`query` (without its question mark) with secret values replaced; everything else as it was sent."""
        if "@" in query:
            query = _without_user_info(query)
        if "=" not in query and "%" not in query:
            return query
        return "&".join([self._pairs(_SEPARATORS.split(part), 0) for part in query.split("&")])

    def path(self, path: str) -> str:
        """A path whose parameters (`/login;jsessionid=1`, RFC 3986 section 3.3) have lost their secret values."""
        if "@" in path:
            path = _without_user_info(path)
        if ";" not in path and "%" not in path:
            return path
        return "/".join([self._pairs(_SEPARATORS.split(segment), 2) for segment in path.split("/")])

    def url(self, url: str) -> str:
        """An absolute URL without user information and without a fragment, its path and query redacted."""
        head, question, query = url.partition("#")[0].partition("?")
        return f"{self.path(head)}?{self.query(query)}" if question else self.path(head)

    def header(self, name: str, value: str) -> str:
        """A header's value, unless its name (lower case) says that it is a secret."""
        return REDACTED if name in _SECRET_HEADERS or self._is_secret(name) else value

    def _pairs(self, parts: list[str], first: int) -> str:
        """`parts`: pairs, and between them their separators; those before `first` are none but may hold some. What
        follows a secret key may belong to its value, and goes with it."""
        for index in range(0, len(parts), 2):
            key, equals, value = parts[index].partition("=")
            if index < first or not equals:
                key, value = "", parts[index]
            elif value and self._is_secret(key):
                return "".join([*parts[:index], f"{key}={REDACTED}"])
            if "%" in value and self._hides_secret(value):
                return "".join([*parts[:index], f"{key}={REDACTED}" if key else REDACTED])
        return "".join(parts)

    def _hides_secret(self, value: str) -> bool:
        """A URL or a query is encoded within the value, and has a secret."""
        for _ in range(_MAX_LAYERS):
            plain = unquote_plus(value)
            if plain == value:
                return False
            if _USER_INFO.search(plain):
                return True
            for pair in _NESTED.split(plain):
                key, _, content = pair.partition("=")
                if content and self._is_secret(key):
                    return True
            value = plain
        return False

    def _is_secret(self, key: str) -> bool:
        known = self._known.get(key)
        if known is None:
            plain = key
            for _ in range(_MAX_LAYERS):
                plain = unquote_plus(plain)
            lowered = plain.lower()
            words = [word.lower() for word in _WORDS.findall(plain)]
            known = (
                lowered in self._secret
                or any(word in self._secret for word in words)
                or any(f"{a}_{b}" in self._secret or a + b in self._secret for a, b in pairwise(words))
            )
            if len(key) <= _LONGEST_KNOWN:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = known
        return known


def _without_user_info(text: str) -> str:
    return _USER_INFO.sub(f"{REDACTED}:{REDACTED}@", text)
