"""Records kept in a file: replayed, they give the spans that were given live; damaged, they give what is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integration.harness import balance, expect, servers, spans, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector, otelbpf
from integration.harness.plan import app_plan, base_url


class Recorded:
    """A workload seen by two collectors at once: one wrote spans, the other the records."""

    def __init__(self, tier: str, folder: Path) -> None:
        self.folder = folder
        self.capture = folder / "out.cap"
        server = servers.start("gunicorn-gthread", folder)
        (folder / "recorder").mkdir()
        with Collector(folder, tier=tier, ports=[server.port]) as live:
            recorder = Collector(folder / "recorder", self.capture, command="record", tier=tier, ports=[server.port])
            with recorder, server:
                asked = ask("go", app_plan("rec", base_url("v4", server.port), 95, agent="go"), folder)
        self.expected = expect.both_ends(asked, server)
        self.live = live.spans()


@pytest.fixture(scope="module")
def recorded(tier: str, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Recorded once, replayed by every test."""
    return Recorded(tier, tmp_path_factory.mktemp("capture"))


def replay(
    capture: Path, folder: Path, name: str = "replayed.jsonl", **fields: Any
) -> tuple[list[spans.SeenSpan], Any]:
    """The spans of a replay and its process."""
    out = folder / name
    out.unlink(missing_ok=True)
    result = otelbpf("replay", capture, "--export", f"file:{out}", folder=folder, **fields)
    return (spans.read(out) if out.exists() else []), result


def told(span: spans.SeenSpan) -> str:
    """Everything a span says but its ids and times: two collectors look at two clocks."""
    attributes = {name: value for name, value in span.attributes.items() if not name.endswith("_ns")}
    return json.dumps([span.kind, span.name, span.status, attributes, span.resource], sort_keys=True)


def test_a_replay_is_the_run(recorded: Recorded) -> None:
    """The same spans from the file as live, on both sides; and they are the truth."""
    found, result = replay(recorded.capture, recorded.folder)
    assert result.returncode == 0, result.stderr
    truth.assert_equal(recorded.expected, recorded.live)
    truth.assert_equal(recorded.expected, found)
    assert sorted(map(told, found)) == sorted(map(told, recorded.live))
    balance.parse(result.stderr).assert_balanced()


def test_a_replay_needs_no_rights(recorded: Recorded) -> None:
    """Standard output alone, twice the same but for the ids, and nothing else on it."""
    once, again = (otelbpf("replay", recorded.capture, "--export", "file:-", folder=recorded.folder) for _ in range(2))
    assert once.returncode == 0, once.stderr
    pair = [[(told(s), s.start_ns, s.end_ns) for s in spans.parse(result.stdout)] for result in (once, again)]
    assert pair[0] == pair[1]
    assert len(pair[0]) == len(recorded.expected)


@pytest.mark.parametrize("percent", [3, 40, 97])
def test_a_capture_cut_short(percent: int, recorded: Recorded, tmp_path: Path) -> None:
    """What is whole before the cut is delivered, then the error tells the place."""
    whole = recorded.capture.read_bytes()
    cut = tmp_path / "cut.cap"
    cut.write_bytes(whole[: len(whole) * percent // 100])
    found, result = replay(cut, tmp_path)
    assert_told_and_failed(found, result, recorded, cut)


@pytest.mark.parametrize("percent", [3, 40, 97])
def test_a_capture_damaged(percent: int, recorded: Recorded, tmp_path: Path) -> None:
    """One bit wrong: what comes before it is delivered, nothing after it."""
    damaged = bytearray(recorded.capture.read_bytes())
    damaged[len(damaged) * percent // 100] ^= 0x10
    file = tmp_path / "damaged.cap"
    file.write_bytes(damaged)
    found, result = replay(file, tmp_path)
    assert_told_and_failed(found, result, recorded, file)


def test_a_capture_of_the_future(recorded: Recorded, tmp_path: Path) -> None:
    """A format this version does not know is refused by number."""
    future = bytearray(recorded.capture.read_bytes())
    future[8:10] = (99).to_bytes(2, "little")
    file = tmp_path / "future.cap"
    file.write_bytes(future)
    found, result = replay(file, tmp_path)
    assert found == []
    assert_told_and_failed(found, result, recorded, file)


def assert_told_and_failed(found: list[spans.SeenSpan], result: Any, recorded: Recorded, file: Path) -> None:
    """Every span is one of the whole capture's; the error is one line with the file's name; the account balances."""
    assert result.returncode == 1, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("otelbpf: error: ")]
    assert str(file) in line
    assert "Traceback" not in result.stderr
    known = {told(span) for span in recorded.live}
    # A connection that the damage cut off leaves spans that say so.
    assert [span.summary() for span in found if told(span) not in known and "error.type" not in span.attributes] == []
    if "balance sheet" in result.stderr:
        balance.parse(result.stderr).assert_balanced()
