"""What doctor says of the host, with real programs on it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from integration.harness import servers
from integration.harness.collector import COMMAND
from integration.harness.processes import ROOT


def test_whose_tls_cannot_be_read_is_named(folder: Path) -> None:
    """Go's and Java's, by program and process; not that of nginx and of node, whose libraries can be."""
    started = {name: servers.start(name, folder) for name in ("go", "java", "nginx", "node")}
    command = [*COMMAND, "doctor"]
    try:
        told = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    finally:
        for server in started.values():
            server.running.stop()
    programs = json.loads(told.stdout)["unreadable_tls"]
    libraries = {pid: program["library"] for program in programs for pid in program["pids"]}
    ours = {name: {libraries.get(pid) for pid in server.pids()} for name, server in started.items()}
    assert ours == {"go": {"Go crypto/tls"}, "java": {"Java JSSE"}, "nginx": {None}, "node": {None}}
    (line,) = [line for line in shown.stdout.splitlines() if f"(pid {started['go'].running.pid})" in line]
    assert line.endswith("cannot be read: Go crypto/tls. Plain text is told.")
