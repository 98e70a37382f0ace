"""The collector under test: started as a user starts it, waited for, ended, and its account read."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from integration.harness import spans as span_files
from integration.harness.cgroups import own_group
from integration.harness.processes import ROOT, SLOW, Running, wait_for

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "otelbpf")
"""What is installed, compiled, not what stands in the working directory."""
CLEAN = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OTELBPF_"))},
    "PYTHONPATH": "",
}
"""The environment of a collector: nothing of the caller's own telemetry."""


def otelbpf(*arguments: str | Path, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of otelbpf to its end."""
    command = [*COMMAND, *map(str, arguments)]
    environment = {**CLEAN, **more.pop("environment", {})}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60 * SLOW, check=False, **more
    )


@functools.cache
def doctor() -> dict[str, Any]:
    """What `otelbpf doctor --json` says of this host."""
    result = otelbpf("doctor", "--json", folder=ROOT)
    assert result.stdout.startswith("{"), f"doctor --json printed {result.stdout!r} {result.stderr!r}"
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


class Collector:
    """`otelbpf run`, or another command that captures, at work. Leaving the context ends it by SIGTERM and waits."""

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        tier: str,
        command: str = "run",
        ports: Sequence[int] = (),
        listen: str = "off",
        export: bool = True,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str | Path] = (),
        tls: bool = False,
    ) -> None:
        """`wrapper` is a program that runs the command behind it. Uprobes (`tls`) are for the tests that ask for them:
        the kernel takes seconds to remove them, for which the next collector would wait. Ports do not tell whose plain
        text it is until its socket is known: a test that is `alone` in its cgroup has that for a filter as well."""
        self.folder = folder
        self.spans_path = folder / "spans.jsonl"
        argv: list[str | Path] = [*wrapper, *COMMAND, "--debug", command, *arguments, "--tier", tier]
        if command == "run":
            argv += ["--listen", listen]
            argv += ["--export", f"file:{self.spans_path}"] if export else []
        argv += [word for port in ports for word in ("--port", str(port))]
        group = own_group() if tls else None
        argv += ["--cgroup", group] if group is not None else []
        asked = {} if tls else {"OTELBPF_CAPTURE_TLS": "false"}
        self.running = Running(
            argv, folder=folder, name="otelbpf", environment={**CLEAN, **asked, **(environment or {})}
        )

    def __enter__(self) -> Collector:
        return self.ready()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.running.stop()
        else:
            self.finish()

    def ready(self) -> Collector:
        """Wait until every probe is attached."""

        def line() -> str:
            assert self.running.alive(), f"otelbpf ended with {self.running.wait()}:\n{self.stderr()}"
            return next((line for line in self.stderr().splitlines() if line.startswith("ready")), "")

        self.ready_line = wait_for("otelbpf to be ready", line, within_seconds=20)
        return self

    def finish(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it as a user would; it must drain and end with 0."""
        status = self.running.stop(how, within_seconds=30)
        Running.release_all()
        assert status == 0, f"otelbpf ended with {status}:\n{self.stderr()[-4000:]}"
        assert "Traceback" not in self.stderr(), self.stderr()[-6000:]

    def wait_attached(self, file: Path, pid: int) -> None:
        """Wait until the functions of a TLS library that a process has mapped are read."""

        def said() -> bool:
            lines = [json.loads(line) for line in self.stderr().splitlines() if '"tls.attached"' in line]
            return any((line["file"], line["pid"]) == (str(file), pid) for line in lines)

        wait_for(f"probes on {file}", said, otherwise=self.stderr)

    def stderr(self) -> str:
        """What it said."""
        return self.running.output()

    def spans(self) -> list[span_files.SeenSpan]:
        """What it exported to the file."""
        return span_files.read(self.spans_path)


def ansi_free(text: str) -> str:
    """Text without the sequences that colour it."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
