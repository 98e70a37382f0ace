"""Spans for people: a line each, as many as a person can follow.

    14:03:07.512  shop      SERVER  GET /orders/{id}    200    1.24 ms

When more spans come than `lines_per_second`, the rest of each moment is summed up in one line. Spans that are not shown
count as exported: the console has taken them, and said how many they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from otelbpf.exporters.group import Group
from otelbpf.telemetry.log import printable
from otelbpf.tracing.span import Span, Status

LINES_PER_SECOND = 50

_NOT_SHOWN = b""
_COLOURS = {Status.UNSET: "green", Status.OK: "green", Status.ERROR: "red"}


class ConsoleEncoder:
    """Spans as lines of text, at most `lines_per_second` (None: all of them); coloured when it is for a terminal."""

    def __init__(
        self,
        *,
        terminal: bool,
        lines_per_second: int | None = LINES_PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._render = _coloured() if terminal else _plain
        self._lines_per_second = lines_per_second
        self._clock = clock
        self._second = 0.0
        self._lines = 0

    def encode(self, spans: Sequence[Span]) -> list[Group]:
        """One line for each span that is shown, nothing for the others; in one group, as resources are in the lines."""
        shown = min(len(spans), self._allowance())
        self._lines += shown
        lines = [self._render(_columns(span)) for span in spans[:shown]]
        lines += [_NOT_SHOWN] * (len(spans) - shown)
        return [Group(b"", lines, sum(map(len, lines)))] if lines else []

    def _allowance(self) -> int:
        if self._lines_per_second is None:
            return 1 << 62
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        return self._lines_per_second - self._lines

    def assemble(self, groups: Sequence[Group]) -> bytes:
        """The lines, and how many spans have none."""
        lines = [line for group in groups for line in group.spans if line]
        hidden = sum([len(group.spans) for group in groups]) - len(lines)
        if hidden:
            lines.append(b"... and %d more spans, exported but not shown (file:- writes every one)\n" % hidden)
        return b"".join(lines)


def _columns(span: Span) -> tuple[str, str, str, str, str, str, Status]:
    seconds, nanoseconds = divmod(span.start_ns, 1_000_000_000)
    name = span.name
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        clock = "--:--:--"  # a capture file may claim any time
    service, result, target = "unknown", "", ""
    for key, value in span.resource.attributes:
        if key == "service.name":
            service = str(value)
    for key, value in span.attributes:
        if key == "http.response.status_code" or (key == "error.type" and not result):
            result = str(value)
        elif key in {"url.path", "url.full"}:
            target = f" {value}"
            name = name.partition(" ")[0]  # the method; the route behind it says nothing more than the target
    return (
        f"{clock}.{nanoseconds // 1_000_000:03}",
        printable(service, longest=40),
        span.kind.name,
        printable(name + target, longest=100),
        printable(result or span.status.name.lower(), longest=40),
        f"{(span.end_ns - span.start_ns) / 1e6:,.2f} ms",
        span.status,
    )


def _plain(columns: tuple[str, str, str, str, str, str, Status]) -> bytes:
    clock, service, kind, name, result, duration, _ = columns
    return f"{clock}  {service:<20} {kind:<8} {name:<40} {result:>6} {duration:>12}\n".encode(errors="replace")


def _coloured() -> Callable[[tuple[str, str, str, str, str, str, Status]], bytes]:
    # Only a terminal needs it.
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(force_terminal=True, soft_wrap=True, highlight=False)

    def render(columns: tuple[str, str, str, str, str, str, Status]) -> bytes:
        clock, service, kind, name, result, duration, status = columns
        with console.capture() as capture:
            console.print(
                Text.assemble(
                    (clock, "dim"),
                    (f"  {service:<20} ", "cyan"),
                    (f"{kind:<8} ", "dim"),
                    (f"{name:<40} ", "bold"),
                    (f"{result:>6} ", _COLOURS[status]),
                    f"{duration:>12}",
                )
            )
        return capture.get().encode(errors="replace")

    return render
