"""`pip install .` in an environment of its own, without BCC: enough to replay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from integration.harness import balance, spans
from integration.harness.processes import ROOT
from otelbpf.events.capture import CaptureWriter
from tests.fake_kernel import FakeKernel

REQUESTS = 23
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON", "VIRTUAL_ENV"))}


def recorded(path: Path) -> Path:
    """A capture of 23 requests."""
    kernel = FakeKernel()
    for number in range(REQUESTS):
        socket = kernel.accept(peer_port=40000 + number)
        socket.receive(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number).send(b"HTTP/1.1 204 No\r\n\r\n").close()
    with CaptureWriter(path) as writer:
        writer.write(kernel.records)
    return path


def test_what_is_installed_by_pip_replays(folder: Path) -> None:
    """It has no BCC to import, is not compiled, and needs neither."""
    place = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    command: list[str | Path] = [place / "bin" / "pip", "install", "--quiet", ROOT]
    installing = subprocess.run(command, capture_output=True, text=True, env=CLEAN, check=False)
    assert installing.returncode == 0, installing.stderr
    command = [place / "bin" / "python", "-c", "import bcc"]
    assert subprocess.run(command, env=CLEAN, capture_output=True, check=False).returncode == 1

    out = folder / "spans.jsonl"
    command = [place / "bin" / "otelbpf", "replay", recorded(folder / "out.cap"), "--export", f"file:{out}"]
    replayed = subprocess.run(command, capture_output=True, text=True, env=CLEAN, cwd=folder, check=False)

    assert replayed.returncode == 0, replayed.stderr
    balance.parse(replayed.stderr).assert_balanced()
    assert [span.path for span in spans.read(out)] == [f"/{number}" for number in range(REQUESTS)]
