"""The name of what a process runs: for an interpreter that is the script, module, jar or application, not the
interpreter.

Only what stands on the command line counts, by rules that need no look at any file:
- a script or jar gives its file name without the extension, a jar without its version;
- a file whose name stands for its folder (index.js, __main__.py, manage.py) gives the folder's, build folders
  skipped, where the path tells it;
- a class gives its last part, or that of its package where the class is only called Main or the like;
- a program that gave itself a title (setproctitle) is named by it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Final

from otelbpf.events.types import Identity
from otelbpf.identity.python_programs import python_name, title_name
from otelbpf.identity.scripts import base_name, first_plain, script_name

Rule = Callable[[Sequence[str]], str]
"""The name that arguments (the first one left out) give; empty where they give none."""

_VERSION: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)*t?(?:-dbg)?$")
_JAR_VERSION: Final = re.compile(r"[-_]v?[0-9]+(?:[.\-_+][\w.\-+]*)?$")
_JAVA_WITH_VALUE: Final = frozenset(
    [
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--upgrade-module-path",
        "--add-modules",
        "--add-reads",
        "--add-exports",
        "--add-opens",
        "--limit-modules",
        "--patch-module",
        "--source",
    ]
)
_JAVA_NAMED: Final = ("-Dotel.service.name=", "-Dspring.application.name=")
_GENERIC_CLASSES: Final = frozenset(
    [
        "main",
        "app",
        "application",
        "bootstrap",
        "launcher",
        "server",
        "starter",
        "start",
        "startup",
        "boot",
        "cli",
        "cmd",
        "run",
        "runner",
    ]
)
_NODE_WITH_VALUE: Final = frozenset(
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file", "--title"]
)
_NODE_RUNNERS: Final = frozenset(
    ["ts-node", "ts-node-dev", "tsx", "nodemon", "babel-node", "cross-env", "dotenv", "run", "watch"]
)
_RUBY_WITH_VALUE: Final = frozenset(["-I", "-r", "-C", "-E", "-K"])
_PHP_WITH_VALUE: Final = frozenset(["-c", "-d", "-S", "-t", "-z", "-n"])
_POOL: Final = re.compile(r"php-fpm: pool (\S+)")
_MULTI_CALL: Final = frozenset(["busybox", "toybox", "coreutils"])


def program_name(identity: Identity) -> str:
    """The name of a process's program; empty where nothing of it is known."""
    command = identity.command
    executable = base_name(identity.executable) or (base_name(command[0]) if command else "")
    if not executable:
        return ""
    if executable in _MULTI_CALL and command:
        return base_name(command[0])
    kind = _VERSION.sub("", executable)
    rule = _RULES.get(kind)
    if rule is None:
        return executable
    return _by_title(kind, command) or rule(command[1:]) or executable


def _by_title(kind: str, command: Sequence[str]) -> str:
    """The first word of a title, unless the title is a command line."""
    words = command[0].split() if len(command) == 1 else []
    if len(words) < 2:
        return ""
    if _VERSION.sub("", base_name(words[0])) == kind:
        return _RULES[kind](words[1:])
    return title_name(command[0])


def _java(arguments: Sequence[str]) -> str:
    for prefix in _JAVA_NAMED:
        named = [argument.removeprefix(prefix) for argument in arguments if argument.startswith(prefix)]
        if named:
            return named[-1]
    rest = iter(arguments)
    for argument in rest:
        if argument == "-jar":
            return _JAR_VERSION.sub("", base_name(next(rest, "")).removesuffix(".jar"))
        if argument in ("-m", "--module"):
            module, _, main = next(rest, "").partition("/")
            return _class(main or module)
        if argument in _JAVA_WITH_VALUE:
            next(rest, None)
        elif not argument.startswith(("-", "@")):
            return script_name(argument) if argument.endswith(".java") else _class(argument)
    return ""


def _class(name: str) -> str:
    parts = name.split(".")
    while len(parts) > 1 and parts[-1].lower() in _GENERIC_CLASSES:
        parts.pop()
    return parts[-1]


def _node(arguments: Sequence[str]) -> str:
    plain = first_plain(arguments, with_value=_NODE_WITH_VALUE, code=("-e", "--eval", "-p", "--print"))
    while plain and base_name(plain[0]) in _NODE_RUNNERS and len(plain) > 1:
        plain = first_plain(plain[1:], with_value=_NODE_WITH_VALUE, code=())
    return script_name(plain[0]) if plain else ""


def _ruby(arguments: Sequence[str]) -> str:
    plain = first_plain(arguments, with_value=_RUBY_WITH_VALUE, code=("-e",))
    return script_name(plain[0]) if plain else ""


def _php(arguments: Sequence[str]) -> str:
    if arguments[:1] == ("-S",) and len(arguments) > 1 and (public := _after(arguments, "-t")):
        return script_name(public + "/index.php")
    plain = first_plain(arguments, with_value=_PHP_WITH_VALUE, code=("-r",))
    return script_name(plain[0]) if plain else ""


def _php_fpm(arguments: Sequence[str]) -> str:
    return "php-fpm"


def _dotnet(arguments: Sequence[str]) -> str:
    return next((base_name(each).removesuffix(".dll") for each in arguments if each.endswith(".dll")), "")


def _shell(arguments: Sequence[str]) -> str:
    plain = first_plain(arguments, with_value=frozenset(("-o", "+o")), code=("-c",))
    return script_name(plain[0]) if plain else ""


def _uwsgi(arguments: Sequence[str]) -> str:
    return python_name(("uwsgi", *arguments))


def _after(arguments: Sequence[str], option: str) -> str:
    return next((value for name, value in itertools.pairwise(arguments) if name == option), "")


_RULES: Final[dict[str, Rule]] = {
    "python": python_name,
    "pypy": python_name,
    "uwsgi": _uwsgi,
    "java": _java,
    "node": _node,
    "nodejs": _node,
    "bun": _node,
    "deno": _node,
    "ruby": _ruby,
    "perl": _ruby,
    "php": _php,
    "php-fpm": _php_fpm,
    "dotnet": _dotnet,
    "bash": _shell,
    "sh": _shell,
    "dash": _shell,
}
