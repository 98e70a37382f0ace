"""What addresses are called, as name servers told somebody on this host.

A name is given only where it is the only one that was heard of an address: many share one (a proxy's, a CDN's), and
which of them a connection meant is then not known.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from otelbpf.connections.address import address_text
from otelbpf.events.types import Answer
from otelbpf.protocols.dns import read_answer

MAX_ADDRESSES: Final = 4096
"""Those heard of longest ago go first."""
MAX_NAMES: Final = 4
"""Of one address: two are too many already, the others tell when it is one again."""
KEPT_NS: Final = 3_600_000_000_000
"""How long after it was last heard a name still counts beside another."""


class Names:
    """Told of each answer."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, dict[str, int]] = OrderedDict()
        """By address, when each name was last heard."""

    def note(self, event: Answer) -> None:
        """A name server answered."""
        answer = read_answer(event.message)
        if answer is None:
            return
        name, addresses = answer
        for address in map(address_text, addresses):
            heard = self._names.setdefault(address, {})
            self._names.move_to_end(address)
            heard.pop(name, None)
            heard[name] = event.time_ns
            for old in [each for each, time_ns in heard.items() if event.time_ns - time_ns > KEPT_NS]:
                del heard[old]
            if len(heard) > MAX_NAMES:
                del heard[next(iter(heard))]
            if len(self._names) > MAX_ADDRESSES:
                self._names.popitem(last=False)

    def of(self, address: str) -> str:
        """The name of an address, or else the address."""
        heard = self._names.get(address)
        return next(iter(heard)) if heard is not None and len(heard) == 1 else address
