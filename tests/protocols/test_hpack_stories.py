"""The stories of hpack-test-case, by encoders nobody here wrote: what each block says, from the first block on and
joined at every other one.

The files are not part of the project (MIT, http2jp/hpack-test-case): they are looked for beside the checkout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbpf.protocols.hpack_decode import Decoder

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "hpack"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the stories in {FOLDER}")

Case = tuple[bytes, dict[str, str]]
"""A block, and what it says."""


def stories() -> Iterator[tuple[str, list[Case]]]:
    """Every story by its name."""
    for path in sorted(FOLDER.glob("*/*.json")):
        cases = []
        for case in json.loads(path.read_text())["cases"]:
            said: dict[str, str] = {}
            for field in case["headers"]:
                ((name, value),) = field.items()
                separator = "; " if name == "cookie" else ", "
                said[name] = f"{said[name]}{separator}{value}" if name in said else value
            cases.append((bytes.fromhex(case["wire"]), said))
        yield f"{path.parent.name}/{path.stem}", cases


def everything(cases: list[Case]) -> frozenset[str]:
    """Every name there is."""
    return frozenset(name for _, said in cases for name in said)


def heard(decoder: Decoder, block: bytes) -> tuple[dict[str, str], bool]:
    """What a block says by its fields' names, and whether there are fields without a name."""
    head = decoder.decode(block)
    said = dict(head.headers)
    if head.method:
        said[":method"] = head.method
    if head.target:
        said[":path"] = head.target
    if head.status:
        said[":status"] = str(head.status)
    return said, bool(head.of_trailers)


def as_kept(said: dict[str, str]) -> dict[str, str]:
    """`:authority` is kept as host."""
    kept = dict(said)
    if ":authority" in kept:
        kept["host"] = kept.pop(":authority")
    return kept


def test_every_story_from_its_first_block() -> None:
    """Every field of every block, and nothing is unknown."""
    blocks = 0
    for name, cases in stories():
        decoder = Decoder(everything(cases), limit=1 << 20, complete=True)
        for i, (block, said) in enumerate(cases):
            assert heard(decoder, block) == (as_kept(said), False), (name, i)
            blocks += 1

    assert blocks == 6651


def test_every_story_joined_at_every_block() -> None:
    """No value is ever wrong, and what is missing is said to be. A run ends where the joined table holds all that
    the sender's does: what follows is then what it is to a decoder that heard everything."""
    for _, cases in stories():
        wanted = everything(cases)
        whole = Decoder(wanted, limit=1 << 20, complete=True)
        tables = []
        for block, _ in cases:
            whole.decode(block)
            tables.append(list(whole.table.entries))
        for joined in range(1, len(cases)):
            decoder = Decoder(wanted, limit=1 << 20, complete=False)
            for i, (block, said) in enumerate(cases[joined:], joined):
                got, unnamed = heard(decoder, block)
                check(got, as_kept(said), unnamed=unnamed)
                newest = tables[i][::-1]
                known = decoder.table.entries[::-1][: len(newest)]
                if known == newest:
                    break
                for (name, value, size), entry in zip(known, newest, strict=False):
                    assert (name, value, size) == entry or (name is None and size < entry[2])


def check(got: dict[str, str], said: dict[str, str], *, unnamed: bool) -> None:
    """Of a field that comes several times, one may be missing where some field has no name."""
    if not unnamed:
        assert got == said
        return
    assert got != said
    for name, value in got.items():
        separator = "; " if name == "cookie" else ", "
        parts = iter(said[name].split(separator))
        assert all(part in parts for part in value.split(separator))
