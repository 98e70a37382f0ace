"""What `otelbpf doctor` prints of what it found."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from otelbpf.cli.doctor import doctor
from otelbpf.sources import features, unreadable
from otelbpf.sources.features import Feature, Tier
from otelbpf.sources.unreadable import Unreadable

FEATURES = [
    Feature("ring buffer", True, "one was made", "nothing can be traced", "", True),
    Feature("tracefs", False, "not mounted", "no kprobe tier", "mount it", False),
]

UNREADABLE = [Unreadable("/usr/bin/caddy", "Go crypto/tls", (41, 43))]


def ask(monkeypatch: pytest.MonkeyPatch, tracepoint: bool, *arguments: str) -> tuple[int, str]:
    """Exit status and output on a host where at most the tracepoint tier works."""
    found = [
        Tier("kprobe", False, "this kernel has no kprobes", ""),
        Tier("tracepoint", tracepoint, "tried", "" if tracepoint else "upgrade"),
    ]
    monkeypatch.setattr(features, "features", lambda: FEATURES)
    monkeypatch.setattr(features, "tiers", lambda: found)
    monkeypatch.setattr(unreadable, "find_unreadable", lambda *, but: UNREADABLE)
    result = CliRunner().invoke(doctor, arguments, standalone_mode=False)
    assert result.exception is None
    return result.return_value, result.output


def test_a_host_that_can_be_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = ask(monkeypatch, True)

    assert status == 0
    assert [" ".join(line.split()) for line in output.splitlines()] == [
        "yes ring buffer one was made",
        "no tracefs not mounted; costs: no kprobe tier; mount it",
        "no kprobe tier this kernel has no kprobes",
        "yes tracepoint tier tried",
        "TLS of /usr/bin/caddy (pid 41, 43) cannot be read: Go crypto/tls. Plain text is told.",
        "This host can be traced, by the tracepoint tier.",
    ]


def test_a_host_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = ask(monkeypatch, False)

    assert status == 1
    assert output.splitlines()[-1] == "This host cannot be traced."
    assert "tried; upgrade" in output


def test_a_line_a_feature_where_nobody_looks_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = Feature(
        "saved registers", False, "not permitted " * 9, "no tracepoint tier " * 9, "needs Linux 5.15", False
    )
    monkeypatch.setitem(globals(), "FEATURES", [lacks])

    _, output = ask(monkeypatch, True)

    assert len(output.splitlines()) == 5
    assert [line for line in output.splitlines() if line != line.rstrip()] == []


def test_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = ask(monkeypatch, True, "--json")
    answer = json.loads(output)

    assert status == 0
    assert answer["works"] is True
    assert [(tier["name"], tier["works"]) for tier in answer["tiers"]] == [("kprobe", False), ("tracepoint", True)]
    assert answer["features"][1] == {
        "name": "tracefs",
        "works": False,
        "found": "not mounted",
        "costs": "no kprobe tier",
        "remedy": "mount it",
        "needed": False,
    }
    assert answer["unreadable_tls"] == [{"executable": "/usr/bin/caddy", "library": "Go crypto/tls", "pids": [41, 43]}]
