"""How a setting is written: text to value, and value to the shortest text that reads back as it.

The same text means the same in the file, in the environment and behind a flag. A reader raises ValueError, whose
message says nothing: the form's own description is what a user is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec


class Form(msgspec.Struct, frozen=True):
    """A way of writing a value."""

    expected: str
    """Completes 'X is not …'."""
    read: Callable[[str], Any]
    show: Callable[[Any], str]
    item: Form | None = None
    """For lists: the form of one item."""
    pairs: bool = False
    """A mapping of names to texts."""
    auto: bool = False
    """The word auto is a value too: None, which leaves the choice to whoever uses it."""


def _read_whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise ValueError
    return int(text)


_SIZE_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def _read_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,20}) ?(|B|KiB|MiB|GiB|kB|MB|GB)", text)
    if match is None:
        raise ValueError
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _show_size(value: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _SIZE_UNITS[unit] == 0:
            return f"{value // _SIZE_UNITS[unit]}{unit}"
    return str(value)


_SECONDS_OF = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _read_seconds(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return float(text)
    if not re.fullmatch(r"([0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d))+", text):
        raise ValueError
    return sum(float(number) * _SECONDS_OF[unit] for number, unit in re.findall(r"([0-9.]+)([a-z]+)", text))


def _read_milliseconds(text: str) -> float:
    """The OpenTelemetry variables give a bare number of milliseconds."""
    return _read_whole(text) / 1000


def _show_seconds(value: float) -> str:
    for unit in ("d", "h", "m", "s"):
        if value and value % _SECONDS_OF[unit] == 0:
            return f"{value / _SECONDS_OF[unit]:.0f}{unit}"
    return f"{round(value * 1000)}ms" if value and round(value * 1000) == value * 1000 else f"{value:g}"


def _read_ratio(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _read_text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError
    return text


_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read_path(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _read_endpoint(text: str) -> str:
    if text and not re.fullmatch(r"([a-z][a-z-]*://)?[^\s/?#]+(/[^\s?#]*)?|unix(-abstract)?:\S+", text):
        raise ValueError
    return text


def _read_switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError from None


def _read_address(text: str) -> str:
    if text.lower() == "off":
        return "off"
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError
    return text


def _read_spec(text: str) -> str:
    if text in ("otlp", "console", "none") or (text.startswith("file:") and len(text) > 5 and text.isprintable()):
        return text
    raise ValueError


def _read_token(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):  # RFC 9110 section 5.6.2
        raise ValueError
    return text


def _read_header(text: str) -> str:
    return _read_token(text).lower()


def _read_route(text: str) -> str:
    if not re.fullmatch(r"(/([^{}*?#/\s]*|\{[^{}/\s]+\}))+\*?", text):
        raise ValueError
    return text


def _read_pairs(text: str) -> dict[str, str]:
    """key1=value1,key2=value2, percent-encoded as W3C Baggage is (OpenTelemetry specification, resource/sdk.md)."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        name = unquote(name.strip())
        if not name or not equals or name in pairs:
            raise ValueError
        pairs[name] = unquote(value.strip())
    return pairs


def _show_pairs(value: dict[str, str]) -> str:
    return ",".join(f"{name}={text}" for name, text in value.items())


WHOLE = Form("a whole number", _read_whole, str)
SIZE = Form("a size such as 65536, 64KiB or 64MiB", _read_size, _show_size)
SECONDS = Form("a duration such as 500ms, 30s or 5m", _read_seconds, _show_seconds)
MILLISECONDS = Form("a whole number of milliseconds", _read_milliseconds, lambda value: str(round(value * 1000)))
RATIO = Form("a number such as 0.25", _read_ratio, lambda value: f"{value:g}")
TEXT = Form("a text", _read_text, str)
PATH = Form("a path", _read_path, str)
ENDPOINT = Form("an address such as http://jaeger:4317", _read_endpoint, str)
SWITCH = Form("true or false", _read_switch, lambda value: "true" if value else "false")
ADDRESS = Form("HOST:PORT such as 127.0.0.1:9464 or [::1]:9464, or off", _read_address, str)
SPEC = Form("an exporter: otlp, console, none, file:PATH or file:-", _read_spec, str)
HEADER = Form("a header name", _read_header, str)
ROUTE = Form("a route such as /users/{id}/orders or /static/*", _read_route, str)
METHOD = Form("a method such as GET", _read_token, str)
PAIRS = Form("pairs such as deployment.environment.name=test,team=shop", _read_pairs, _show_pairs, pairs=True)


def choice(*names: str) -> Form:
    """One of these words, in whatever case."""

    def read(text: str) -> str:
        if text.lower() not in names:
            raise ValueError
        return text.lower()

    return Form("one of " + ", ".join(names), read, str)


def list_of(item: Form) -> Form:
    """Several values of one form, separated by commas where they are written as one text."""

    def read(text: str) -> tuple[object, ...]:
        return tuple(item.read(part.strip()) for part in text.split(",") if part.strip())

    def show(values: tuple[object, ...]) -> str:
        return ",".join(map(item.show, values))

    return Form(item.expected, read, show, item)


def or_auto(form: Form) -> Form:
    """A value of this form, or the word auto."""

    def read(text: str) -> object:
        return None if text.lower() == "auto" else form.read(text)

    def show(value: object) -> str:
        return "auto" if value is None else form.show(value)

    return Form(form.expected, read, show, auto=True)
