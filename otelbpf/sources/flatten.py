"""One text from many C files: expands `#include "..."` and leaves `#include <...>` to the compiler.

BCC rewrites map operations only in the main file, so our own headers have to become part of it. Each file is taken
once, as its `#pragma once` says, and `#line` keeps the compiler's messages true.
"""

from __future__ import annotations

import re
from pathlib import Path

from otelbpf.errors import DependencyError

_INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')


def flatten(main: Path) -> str:
    """The text of `main` with its own includes expanded, each where it is first named."""
    lines: list[str] = []
    _expand(main, lines, set())
    return "\n".join(lines) + "\n"


def _expand(path: Path, lines: list[str], taken: set[Path]) -> None:
    path = path.resolve()
    if path in taken:
        return
    taken.add(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DependencyError(f"probe source {path}: {error.strerror}", "reinstall otelbpf") from error
    lines.append(f'#line 1 "{path.name}"')
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _INCLUDE.match(line):
            _expand(path.parent / match[1], lines, taken)
            lines.append(f'#line {number + 1} "{path.name}"')
        elif line.strip() != "#pragma once":
            lines.append(line)
        else:
            lines.append("")
