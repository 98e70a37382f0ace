"""What user space writes to the probes, and reads of their table, is the same in C and in Python."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from otelbpf.events import wire
from otelbpf.sources import control, queues, sockets
from tests.layouts import COMPILERS, Fields, compile_with, of_constants, of_struct

# An array of two in C is two fields here: RECEIVED is 0, SENT is 1.
PAIRS = ("end", "lost", "muted", "base", "budget", "frames", "boundary")


def in_c(fields: Fields) -> list[tuple[str, str]]:
    """The fields as C names them."""
    names = {f"{pair}_{way}": f"{pair}[{way.upper()}]" for pair in PAIRS for way in ("received", "sent")}
    return [(names.get(name, name), code) for name, code in fields]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_table_of_sockets(compiler: str) -> None:
    claims = itertools.chain(
        of_struct("socket_entry", ("", [*in_c(sockets.ENTRY_FIELDS), ("reserved", "1s")])),
        of_constants(**{f"LIFE_{life.name}": life for life in sockets.Life}),
        of_constants(**{f"MARK_{mark.name}": mark for mark in sockets.Mark}),
        of_constants(**{f"VERDICT_{verdict.name}": verdict for verdict in control.Verdict}),
    )

    assert compile_with(compiler, "socket.h", claims) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_table_of_listeners(compiler: str) -> None:
    assert compile_with(compiler, "waiting.h", of_struct("listener", ("", queues.LISTENER_FIELDS))) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_settings_and_commands(compiler: str) -> None:
    claims = itertools.chain(
        of_struct("settings", ("", control.SETTINGS_FIELDS)),
        of_struct("command", ("", in_c(control.COMMAND_FIELDS))),
        of_constants(**{f"MODE_{mode.name}": mode for mode in control.Mode}),
    )

    assert compile_with(compiler, "control.h", claims) == ""


def test_an_entry_is_read_field_by_field() -> None:
    names = [name for name, _ in sockets.ENTRY_FIELDS]

    assert names == [field.name for field in msgspec.structs.fields(sockets.SocketEntry)]
    assert sockets.ENTRY.size == 240
    assert wire.ENDPOINTS.size == 40
