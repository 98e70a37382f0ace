"""A table of conversations, all played under one collector, each then judged by its own spans: its port tells them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from integration.harness import balance, truth
from integration.harness.collector import Collector
from integration.harness.spans import SeenSpan
from integration.harness.talk import Talk

Case = Callable[[Talk], None]


def register(cases: dict[str, Case]) -> Callable[[Case], Case]:
    """A decorator that enters a conversation into the table under its name."""

    def enter(play: Case) -> Case:
        cases[play.__name__] = play
        return play

    return enter


class Played:
    """What each case must give, and what it gave."""

    def __init__(self, cases: Mapping[str, Case], tier: str, folder: Path) -> None:
        """At most 64 cases: that many ports can be asked for."""
        self.tier = tier
        self.talks = {name: Talk(f"{os.getpid()}", name) for name in cases}
        ports = [talk.port for talk in self.talks.values()]
        with Collector(folder, tier=tier, ports=ports) as collector:
            for name, play in cases.items():
                try:
                    play(self.talks[name])
                finally:
                    self.talks[name].close()
        self.stderr = collector.stderr()
        self.sheet = balance.parse(self.stderr)
        self.spans: dict[int, list[SeenSpan]] = {port: [] for port in ports}
        for span in collector.spans():
            ends = {span.attributes["network.local.port"], span.attributes["network.peer.port"]}
            (port,) = ends & self.spans.keys()
            self.spans[port].append(span)

    def assert_equal(self, name: str, *, linked: bool = True, within: bool = True) -> None:
        """Exactly the spans the case must give."""
        talk = self.talks[name]
        spans = self.spans[talk.port]
        if talk.expected:
            truth.assert_equal(talk.expected, spans, linked=linked, exact_sends=self.tier == "kprobe", within=within)
        else:
            assert [span.summary() for span in spans] == []
