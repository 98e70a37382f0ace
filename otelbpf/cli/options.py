"""The options that are settings, shared by the commands; read and bounded by the same rules as the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from otelbpf.config.load import Loaded

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _reader(key: str) -> Callable[[str], Any]:
    """Reads the value of one setting; the configuration is imported when there is a value to read."""

    def read(text: str) -> Any:
        from otelbpf.config.table import table  # noqa: PLC0415 - costs more than all of --help

        try:
            value = table()[key].read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if value == ():
            # An unset variable of a script, most likely: it must not widen a filter to everything.
            raise click.BadParameter(f"the value is empty; give {table()[key].expected}, or leave the option out")
        return value

    return read


def _option(
    flag: str, key: str, metavar: str, help_text: str, *, multiple: bool = False
) -> Callable[[_Function], _Function]:
    return click.option(
        flag, key.replace(".", "__"), type=_reader(key), metavar=metavar, multiple=multiple, help=help_text
    )


_CAPTURE = (
    _option("--port", "filters.ports", "PORT,...", "Trace only these ports, at either end.", multiple=True),
    _option("--exe", "filters.executables", "GLOB", "Trace only processes of such executables.", multiple=True),
    _option("--pid", "filters.pids", "PID", "Trace only this process.", multiple=True),
    _option("--cgroup", "filters.cgroups", "PATH", "Trace only this cgroup and those below.", multiple=True),
    _option("--tier", "capture.tier", "auto|kprobe|tracepoint", "How the probes attach; auto chooses."),
    _option("--duration", "capture.duration_seconds", "TIME", "Stop by itself after 30s, 5m, 1h."),
)
_CONFIG = click.option("--config", "config_file", metavar="FILE", help="Settings; see otelbpf config --help.")
_EXPORT = _option(
    "--export", "export.to", "SPEC", "Where spans go: otlp, console, none, file:PATH, file:- .", multiple=True
)
_LISTEN = _option("--listen", "health.listen", "HOST:PORT|off", "Where /metrics, /healthz, /readyz are served.")


def _stack(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def run_options(function: _Function) -> _Function:
    """Everything that `run` takes."""
    return _stack(_EXPORT, *_CAPTURE, _CONFIG, _LISTEN)(function)


def health_options(function: _Function) -> _Function:
    """What decides where the collector's own state is served."""
    return _stack(_CONFIG, _LISTEN)(function)


def record_options(function: _Function) -> _Function:
    """What decides which records there are."""
    return _stack(*_CAPTURE, _CONFIG)(function)


def replay_options(function: _Function) -> _Function:
    """What decides what becomes of records."""
    return _stack(_EXPORT, _CONFIG)(function)


def load_settings(config_file: str | None, options: dict[str, Any]) -> Loaded:
    """The settings in force: defaults, file, environment, and the options that were given."""
    from otelbpf.config.load import load  # noqa: PLC0415 - as above

    flags: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value == ():
            continue
        repeated = isinstance(value, tuple)
        flags[name.replace("__", ".")] = tuple(item for items in value for item in items) if repeated else value
    return load(file=config_file, environment=os.environ, flags=flags)
