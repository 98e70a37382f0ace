"""What the loader imports, and what is said when it does not answer. Nothing is attached here: the probes asked for
do not exist."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from otelbpf.errors import KernelError, OtelbpfError
from otelbpf.sources.attach import Attachment, Loader
from otelbpf.sources.loader import Order


@pytest.mark.parametrize("module", ["msgspec", "ctypes", "bcc"])
def test_the_loader_runs_nothing_that_lies_in_the_working_directory(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs as root, and the directory may be one that everybody writes to."""
    (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OtelbpfError):
        Attachment(tier="tracepoint", ring_bytes=4096, max_sockets=1, probes=tmp_path / "none")

    assert [each.name for each in tmp_path.iterdir()] == [f"{module}.py"]


def test_a_loader_that_ends_at_once_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(KernelError, match="the loader ended with status 1 and said nothing; run otelbpf doctor"):
        Attachment(tier="tracepoint", ring_bytes=4096, max_sockets=1)


def test_a_loader_that_is_not_asked_ends() -> None:
    """Its channel ends; without an order, and without a word."""
    loader = Loader()
    process, _ = loader._begun  # type: ignore[misc]
    loader.close()
    loader.close()

    assert process.poll() == 0


def test_each_order_has_a_process_of_its_own(tmp_path: Path) -> None:
    """One tier is refused, another one is asked for."""
    with closing(Loader()) as loader:
        for _ in range(2):
            loaded, descriptors = loader.ask(
                Order(tier="tracepoint", probes=str(tmp_path), ring_bytes=1, max_sockets=1)
            )
            assert (loaded.error != "", descriptors) == (True, [])
