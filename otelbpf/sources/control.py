"""What user space tells the probes, mirroring probes/include/control.h (tests/sources/test_layouts.py proves it)."""

from __future__ import annotations

import enum
import struct
from typing import Final


class Mode(enum.IntFlag):
    """Which filters count; enum mode."""

    PIDS = 1
    ASK = 2
    PORTS = 4
    CGROUPS = 8
    EXECUTABLES = 16


class Verdict(enum.IntEnum):
    """On a process, or a socket; enum verdict."""

    UNKNOWN = 0
    TRACED = 1
    FILTERED = 2
    OWN = 3


SETTINGS_FIELDS: Final = (
    ("own_pid", "I"),
    ("modes", "I"),
    ("head_limit", "I"),
    ("more_limit", "I"),
    ("wake_bytes", "I"),
    ("command_generation", "I"),
    ("holding", "I"),
    ("reserved", "I"),
)
COMMAND_FIELDS: Final = (
    ("epoch_ns", "Q"),
    ("marks", "I"),
    ("reserved", "I"),
    ("boundary_received", "Q"),
    ("boundary_sent", "Q"),
)
SETTINGS: Final = struct.Struct("<" + "".join(code for _, code in SETTINGS_FIELDS))
COMMAND: Final = struct.Struct("<" + "".join(code for _, code in COMMAND_FIELDS))
