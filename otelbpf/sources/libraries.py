"""The TLS libraries of this host in a live source: their functions get probes when the programs for them are loaded,
those of others as processes come. Whatever stands in the way is no reason not to trace the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from otelbpf.errors import OtelbpfError
from otelbpf.sources.symbols import Symbols
from otelbpf.sources.targets import CARRIERS, HOOKS, USUAL, Targets
from otelbpf.sources.uprober import Uprober

_LOOK_NS: Final = 5_000_000_000
"""How often it is asked whether processes have loaded a TLS library since."""


class Libraries:
    """Probes in libraries, until `close`. What takes time and needs no program is begun at once."""

    def __init__(self, *, hold: Callable[[bool], None], tell: Callable[[str, int], None]) -> None:
        """`hold` and `tell` are those of sources.targets.Targets."""
        self._hold = hold
        self._tell = tell
        self._targets: Targets | None = None
        self._looked_ns = 0
        self.refused = ""
        """Why the plain text of TLS is not read; empty where it is."""
        self._uprober: Uprober | None = None
        self._symbols = Symbols(HOOKS.keys(), needed=CARRIERS)
        self._ahead = threading.Thread(
            target=self._symbols.read_ahead, args=(USUAL,), name="otelbpf-symbols", daemon=True
        )
        try:
            self._uprober = Uprober()
        except (OtelbpfError, OSError) as error:
            self.refused = error.problem if isinstance(error, OtelbpfError) else str(error)
        else:
            self._ahead.start()

    @property
    def possible(self) -> bool:
        """Whether anything could be attached."""
        return self._uprober is not None

    @property
    def attached(self) -> int:
        """Files with a library that have probes now."""
        return self._targets.attached if self._targets is not None else 0

    def give_up(self, why: str) -> None:
        """The programs for it cannot be had."""
        self.refused = why
        self.close()
        self._uprober = None

    def attach(self, programs: Mapping[str, int], *, refused: str) -> None:
        """Attach `programs`, descriptors by name, to every library there is; `refused` says why they are missing."""
        if self._uprober is None:
            return
        self.refused = refused
        if refused:
            return
        self._ahead.join()
        self._targets = Targets(
            programs,
            self._uprober.attach,
            self._uprober.release,
            symbols=self._symbols,
            hold=self._hold,
            tell=self._tell,
        )
        self._targets.look_at_all()
        if not self._targets.attached:
            self.refused = self._targets.failure

    def look(self, pid: int) -> None:
        """Attach to what this process has."""
        if self._targets is not None:
            self._targets.look(pid)

    def look_again(self, now_ns: int) -> None:
        """Attach to what processes have loaded since, and let go of what nobody has any more; every few seconds."""
        if self._targets is not None and now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now_ns
            self._targets.tidy()
            self._targets.look_again()

    def close(self) -> None:
        """Let every probe go; nobody waits for that. Harmless when called twice."""
        if self._uprober is not None:
            self._uprober.close()
