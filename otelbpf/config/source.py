"""Where a setting can come from, and how it is written there."""

from __future__ import annotations

import msgspec

from otelbpf.config.forms import Form

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Source(msgspec.Struct, frozen=True):
    """How a setting is written, and where it can come from besides the file and its own variable."""

    form: Form
    flag: str = ""
    variables: tuple[str, ...] = ()
    """The standard OpenTelemetry variables, the first that is set counts; the project's own variable wins over them."""
    variable_form: Form | None = None
    """Where the standard variables write the value in another way than the file."""
    secret: bool = False
    """Not to be printed."""
