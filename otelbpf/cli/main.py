"""The command `otelbpf`: finds the sub-command and turns every error into one line and an exit status.

0 done; 1 it could not be done (a line says what and what helps); 2 the command line is wrong; 130 interrupted.
Sub-commands are imported when they are called, so that `--help` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
from typing import Final, NoReturn

import click

from otelbpf import __version__
from otelbpf.errors import OtelbpfError

_COMMANDS: Final = {
    "run": "Trace this host: every HTTP and gRPC request becomes a span.",
    "record": "Write the kernel's raw records to a file.",
    "replay": "Make spans of a recorded file, or of packets (pcap, pcapng).",
    "health": "Say whether the collector on this host traces; for health checks.",
    "doctor": "Say what this host can do, tried for real, and what is missing.",
    "config": "Check a configuration file, or print every setting and its source.",
}


class _Commands(click.Group):
    """Knows the sub-commands by name; a module is imported when its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"otelbpf.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else "known: " + ", ".join(_COMMANDS)
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otelbpf")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def otelbpf(ctx: click.Context, debug: bool) -> None:
    """Every request on this host as an OpenTelemetry span, seen with eBPF; nothing in the applications changes.

    \b
    otelbpf run                                  spans on the terminal, /metrics on 127.0.0.1:9464
    otelbpf run --export otlp --port 8080        one port, to OTEL_EXPORTER_OTLP_ENDPOINT
    otelbpf record out.cap --duration 10s        raw records to a file
    otelbpf replay out.cap --export file:-       spans of it as OTLP/JSON lines; no root needed
    otelbpf doctor                               can this host be traced?

    Each command explains itself: otelbpf COMMAND --help
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """The entry point: runs the command line of this process and exits."""
    threading.excepthook = _thread_failed
    _occupy_standard_streams()
    status = run_command_line(sys.argv[1:])
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError, AttributeError):
        # Whoever read standard output is gone; the interpreter's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


def _occupy_standard_streams() -> None:
    """A stream the caller closed would give its number to the next file or socket, and output would end up there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def run_command_line(arguments: list[str]) -> int:
    """Run one command line; the exit status."""
    try:
        result = otelbpf.main(arguments, prog_name="otelbpf", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        click.echo("otelbpf: interrupted", err=True)
        return 130
    except Exception as error:  # the last boundary: a user meets one line, whatever happened
        if "--debug" in arguments and not isinstance(error, click.ClickException):
            raise
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "otelbpf"
            _say(f"{' '.join(error.format_message().split()).rstrip('.')}; see {command} --help")
            return 2
        case OtelbpfError():
            for line in str(error).splitlines():
                _say(line)
        case click.ClickException():
            _say(error.format_message())
        case BrokenPipeError():
            pass
        case _:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            _say(f"internal error: {what}; this is a defect of otelbpf: --debug before the command shows where")
    return 1


def _say(line: str) -> None:
    click.echo(f"otelbpf: error: {line}", err=True)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "a thread"
    if "--debug" in sys.argv:
        threading.__excepthook__(failure)
    elif failure.exc_type is not SystemExit:
        _say(f"internal error in {name}: {failure.exc_type.__name__}: {failure.exc_value}; a defect of otelbpf")
