"""Starting the command as a user does: a process of its own, with an environment that holds nothing of the caller's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELBPF_"))},
    "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT),
    "PYTHONWARNINGS": "error",
    # The tests may run as root: they must not take what this process may do.
    "OTELBPF_PRIVILEGES_DROP": "false",
}
OTELBPF = "otelbpf"
FAKE_LIVE = "tests.cli.fake_live"


def otelbpf(*arguments: object, module: str = OTELBPF, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    env = {**ENVIRONMENT, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


class Running:
    """A command at work, started with the fake kernel."""

    def __init__(self, folder: Path, *arguments: object, **environment: str) -> None:
        self._log = folder / "stderr"
        with self._log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", FAKE_LIVE, *map(str, arguments)],
                env={**ENVIRONMENT, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def stderr(self) -> str:
        """What it said so far."""
        return self._log.read_text()

    def line(self, begins: str) -> str:
        """Wait for a line on standard error that begins so."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for line in self.stderr().splitlines():
                if line.startswith(begins):
                    return line
            assert self.process.poll() is None or begins in self.stderr(), self.stderr()
            time.sleep(0.01)
        raise AssertionError(f"no line {begins!r} in:\n{self.stderr()}")

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and standard output."""
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output.decode()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
