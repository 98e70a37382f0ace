"""How the bytes of a header field become text, in every version of HTTP."""

from __future__ import annotations


def text(value: bytes) -> str:
    """UTF-8 where it is that, else byte for byte (RFC 9110 section 5.5 leaves what is not ASCII opaque)."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return str(value, "latin-1")
