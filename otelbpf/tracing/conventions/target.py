"""What a request asks for: its method and its target, as attributes have them."""

from __future__ import annotations

METHODS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
"""http.request.method knows these (RFC 9110, RFC 5789, draft-ietf-httpbis-safe-method-w-body), unless others are asked
for; any other is _OTHER."""
OTHER_METHOD = "_OTHER"


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
