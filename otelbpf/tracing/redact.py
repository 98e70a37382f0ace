"""Takes secrets out of URLs before anything else sees them.

The values of secret-looking query keys become REDACTED, as the HTTP semantic conventions ask for known signatures
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/, url.query); user information in a URL likewise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from urllib.parse import unquote_plus

REDACTED = "REDACTED"

SECRET_KEYS = (
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

_SECRET_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")
_MAX_KNOWN = 4096


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
        if "=" not in query:
            return query
        return "&".join([self._pairs(part.split(";"), 0) for part in query.split("&")])

    def path(self, path: str) -> str:
        """A path whose parameters (`/login;jsessionid=1`, RFC 3986 section 3.3) have lost their secret values."""
        if "@" in path:
            path = _without_user_info(path)
        if ";" not in path:
            return path
        return "/".join([self._pairs(segment.split(";"), 1) for segment in path.split("/")])

    def url(self, url: str) -> str:
        """An absolute URL without user information and without a fragment, its path and query redacted."""
        head, question, query = url.partition("#")[0].partition("?")
        return f"{self.path(head)}?{self.query(query)}" if question else self.path(head)

    def header(self, name: str, value: str) -> str:
        """A header's value, unless its name (lower case) says that it is a secret."""
        return REDACTED if name in _SECRET_HEADERS or self._is_secret(name) else value

    def _pairs(self, pairs: list[str], first: int) -> str:
        """Joined by `;` again. What follows a secret key may belong to its value, and goes with it."""
        for index in range(first, len(pairs)):
            key, _, value = pairs[index].partition("=")
            if value and self._is_secret(key):
                return ";".join([*pairs[:index], f"{key}={REDACTED}"])
        return ";".join(pairs)

    def _is_secret(self, key: str) -> bool:
        known = self._known.get(key)
        if known is None:
            plain = unquote_plus(key)
            lowered = plain.lower()
            words = [word.lower() for word in _WORDS.findall(plain)]
            known = (
                lowered in self._secret
                or any(word in self._secret for word in words)
                or any(f"{a}_{b}" in self._secret or a + b in self._secret for a, b in pairwise(words))
            )
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = known
        return known


def _without_user_info(text: str) -> str:
    return _USER_INFO.sub(f"{REDACTED}:{REDACTED}@", text)
