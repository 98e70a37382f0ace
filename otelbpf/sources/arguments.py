"""A process's arguments, fit to be kept: bounded, and without the secrets that people pass on command lines.

Redaction errs on the safe side: what follows a name such as db-password or apiKey is replaced, to the end of the
argument. A secret without a name beside it cannot be told from anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_ARGUMENTS: Final = 128
MAX_ARGUMENT_CHARS: Final = 256
MAX_CHARS: Final = 8192
"""Over all arguments."""
REDACTED: Final = "REDACTED"
_LOOKED_AT: Final = 4096

_SECRETS: Final = frozenset(
    ("auth", "authorization", "bearer", "cookie", "cookies", "credential", "dsn", "jwt", "pass", "pwd", "sig")
)
_ENDINGS: Final = (
    *("password", "passwords", "passwd", "passphrase", "secret", "secrets", "token", "tokens"),
    *("apikey", "credentials", "signature"),
)
_KEYS: Final = frozenset(("access", "account", "api", "encryption", "master", "private", "secret", "shared", "signing"))
"""A key is a secret if it is one of these."""
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Possessive: each name is tried once, however long (an argument is a stranger's text).
_NAMED: Final = re.compile(r"(?<![\w.\-])([\w.\-]++)[\"']?\s*+[=:]\s*+(?=\S)")
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s@]*+@")
_SCHEME: Final = re.compile(r"\b(bearer|basic)\s++\S.*", re.IGNORECASE | re.DOTALL)


def bounded(arguments: Iterable[bytes]) -> tuple[str, ...]:
    """Arguments as text, redacted, cut in length and number."""
    kept: list[str] = []
    room = MAX_CHARS
    secret_next = False
    for raw in arguments:
        if len(kept) == MAX_ARGUMENTS or room <= 0:
            break
        argument = raw[:_LOOKED_AT].decode("utf-8", "replace")
        is_option = argument.startswith("-")
        text = REDACTED if secret_next and argument and not is_option else redacted(argument)
        secret_next = is_option and "=" not in argument and _is_secret(argument)
        kept.append(text[: min(MAX_ARGUMENT_CHARS, room)])
        room -= len(kept[-1])
    return tuple(kept)


def redacted(argument: str) -> str:
    """One argument without what looks like a secret."""
    argument = _USER_INFO.sub(f"{REDACTED}@", argument)
    for match in _NAMED.finditer(argument):
        if _is_secret(match[1]):
            return argument[: match.end()] + REDACTED
    return _SCHEME.sub(rf"\1 {REDACTED}", argument)


def _is_secret(name: str) -> bool:
    """The name's words tell: DB_PASSWORD, keyStorePassword, --api-key, authtoken; not --author."""
    words = [word.lower() for word in _WORD.findall(name)]
    return any(
        word in _SECRETS
        or word.endswith(_ENDINGS)
        or (word in ("key", "keys") and number > 0 and words[number - 1] in _KEYS)
        for number, word in enumerate(words)
    )
