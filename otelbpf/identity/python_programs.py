"""The name of what Python runs: a script, a module, or the application that one of its servers was given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from otelbpf.identity.scripts import base_name, script_name

# Options of the interpreter (https://docs.python.org/3/using/cmdline.html) that end its own options, or take a value.
_ENDS: Final = "cm"
_TAKES: Final = "WX"

_MODULE_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_TARGET: Final = re.compile(rf"({_MODULE_PATH.pattern}):[A-Za-z_][\w.]*(?:\(.*\))?")
_GENERIC_MODULES: Final = frozenset(
    ["wsgi", "asgi", "app", "application", "main", "server", "api", "celery", "celery_app", "__main__"]
)

_SERVERS: Final = frozenset(
    ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress", "uwsgi"]
)
"""Take module:attribute as an argument, wherever it stands."""
_TOOLS: Final = frozenset(["flask", "celery", "fastapi", "quart"])
_NAMING: Final = ("--name", "-n")
_APPLICATION: Final = ("-A", "--app", "-w", "--module", "--wsgi", "--wsgi-file", "--chdir-app")
_SWITCHES: Final = frozenset(
    [
        "--preload",
        "--reload",
        "--daemon",
        "-D",
        "--no-sendfile",
        "--spew",
        "--check-config",
        "--print-config",
        "-R",
        "--capture-output",
        "--proxy-protocol",
        "--factory",
        "--proxy-headers",
        "--no-access-log",
        "--use-colors",
        "--master",
        "--die-on-term",
        "--vacuum",
    ]
)
_TITLE: Final = re.compile(r"(?:gunicorn: \w+|puma(?::| [\d.]+).*?) \[(.+?)\]")


def python_name(arguments: Sequence[str]) -> str:
    """The name that Python's arguments give; empty where they give none."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if not argument.startswith("-"):
            return _script(argument, arguments[position + 1 :])
        if argument == "-":
            return ""
        letters = "" if argument.startswith("--") else argument[1:]
        for index, letter in enumerate(letters):
            rest = letters[index + 1 :]
            if letter in _ENDS:
                following = ([rest] if rest else []) + list(arguments[position + 1 :])
                return _script(following[0], following[1:]) if letter == "m" and following else ""
            if letter in _TAKES:
                position += not rest
                break
        position += 1 + (argument == "--check-hash-based-pycs")
    return ""


def title_name(title: str) -> str:
    """The name in a title that a program gave itself: gunicorn: master [shop.wsgi], puma 6.4.0 (…) [shop], or its
    first word."""
    match = _TITLE.match(title)
    if match is not None:
        return _target(match[1])
    return base_name(re.split(r"[\s:(]", title, maxsplit=1)[0])


def _script(script: str, arguments: Sequence[str]) -> str:
    """A script, or a module by its name, and what it was given."""
    tool = base_name(script).removesuffix(".__main__")
    if tool in _SERVERS:
        return _served(arguments) or tool
    if tool in _TOOLS:
        return _application(arguments) or (_path(arguments) if tool == "fastapi" else "") or tool
    return script_name(script)


def _served(arguments: Sequence[str]) -> str:
    """The application that a server was given."""
    for name, value in _options(arguments):
        if name in _NAMING and value:
            return value
    for argument in arguments:
        if _TARGET.fullmatch(argument):
            return _target(argument)
    named = _application(arguments)
    if named:
        return named
    after_switch = True
    for argument in arguments:
        if after_switch and _MODULE_PATH.fullmatch(argument):
            return _target(argument)
        # An option without "=" takes what follows, unless it is known not to.
        after_switch = not argument.startswith("-") or argument in _SWITCHES or "=" in argument
    return ""


def _application(arguments: Sequence[str]) -> str:
    for name, value in _options(arguments):
        if name in _APPLICATION and value:
            return _target(value) if _TARGET.fullmatch(value) or _MODULE_PATH.fullmatch(value) else script_name(value)
    return ""


def _path(arguments: Sequence[str]) -> str:
    return next((script_name(argument) for argument in arguments if argument.endswith(".py")), "")


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with what may be their values."""
    for position, argument in enumerate(arguments):
        if argument.startswith("-"):
            name, equals, value = argument.partition("=")
            following = arguments[position + 1] if position + 1 < len(arguments) else ""
            yield name, value if equals else following


def _target(target: str) -> str:
    """shop.wsgi:application is shop; app:app is app."""
    parts = target.partition(":")[0].split(".")
    while len(parts) > 1 and parts[-1] in _GENERIC_MODULES:
        parts.pop()
    if len(parts) > 1 and parts[0] == "src":
        del parts[0]
    return ".".join(parts)
