"""Paths of scripts to names, and the arguments of an interpreter that are not its options."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

_EXTENSION: Final = re.compile(r"\.(?:py[cwz]?|[cm]?[jt]sx?|rb|ru|p[lm]|psgi|php|phar|sh|java)$")
# Files that stand for their folder: by their language's import rules, or Django's for its projects.
_STANDS_FOR_FOLDER: Final = frozenset(("index", "__main__", "__init__", "manage"))
_BUILD_FOLDERS: Final = frozenset(["dist", "build", "out", "lib", "src", "bin", "public", "web", "www", "current", "."])
_ANYONES_FOLDERS: Final = frozenset(("", "..", "app", "code", "srv", "opt", "usr", "home", "root", "tmp", "workspace"))


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def script_name(path: str) -> str:
    """The name that a script gives to what it runs."""
    parts = path.split("/")
    name = _EXTENSION.sub("", parts[-1])
    if name not in _STANDS_FOR_FOLDER:
        return name
    folders = parts[:-1]
    while folders and folders[-1] in _BUILD_FOLDERS:
        folders.pop()
    return folders[-1] if folders and folders[-1] not in _ANYONES_FOLDERS else name


def first_plain(arguments: Sequence[str], *, with_value: Collection[str], code: Collection[str]) -> Sequence[str]:
    """Arguments from the first that is no option. `with_value`: options that take the next one. Empty where an option
    of `code` comes first: then the program itself stands on the command line."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument in code or argument == "-":
            return ()
        if argument == "--":
            return arguments[position + 1 :]
        if not argument.startswith(("-", "+")):
            return arguments[position:]
        position += 2 if argument in with_value else 1
    return ()
