"""Text as UTF-8, whatever a stranger wrote.

What the probes copy is bytes, and decoding them may leave lone surrogates in a string (`errors="surrogateescape"`).
These have no UTF-8, and OTLP asks for valid UTF-8 in every string (proto3, "strings"), so each becomes U+FFFD.
"""

from __future__ import annotations


def clean(text: str) -> str:
    """The text with every lone surrogate replaced; pairs become the character they stand for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def utf8(text: str) -> bytes:
    """The text as valid UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()
