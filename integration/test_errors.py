"""What goes wrong is told in one line with its remedy, and an exit status that is not 0; what can be mended is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.harness import expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import CLEAN, COMMAND, Collector, otelbpf
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import SLOW, Running
from integration.harness.programs import tool

UNTRACED = "umount -l /sys/kernel/debug/tracing /sys/kernel/tracing /sys/kernel/debug 2>/dev/null; "


def the_line(result: subprocess.CompletedProcess[str], *, status: int = 1) -> str:
    """The one line that a failed command says."""
    lines = [line for line in result.stderr.splitlines() if line]
    assert (result.returncode, len(lines)) == (status, 1), f"{result.returncode}: {result.stdout}{result.stderr}"
    (line,) = lines
    assert line.startswith("otelbpf: error: ")
    assert "internal error" not in line
    return line


def user(command: Sequence[str | Path], folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """A command of otelbpf behind another program."""
    argv = [*before, *COMMAND, *map(str, command)]
    return subprocess.run(argv, cwd=folder, env=CLEAN, capture_output=True, text=True, timeout=60 * SLOW, check=False)


def in_own_mounts(script: str, command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """The same where `script` has changed what is mounted; nobody else sees the change."""
    return user(command, folder, *unshared(script))


def unshared(script: str) -> list[str]:
    """What runs the command behind it in mounts of its own."""
    unshare = [tool("unshare", "util-linux"), "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-c", script + 'exec "$@"', "sh"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives up rights, changes mounts")


@needs_root
@pytest.mark.parametrize("command", [["run"], ["record", "out.cap"]], ids=["run", "record"])
def test_without_root(command: list[str], folder: Path) -> None:
    """A user without rights is told which are missing and how to get them."""
    nobody = [tool("setpriv", "util-linux"), "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    reachable = subprocess.run(
        [*nobody, sys.executable, "-c", "import click, otelbpf"], env=CLEAN, check=False, cwd="/"
    )
    if reachable.returncode != 0:
        pytest.skip(f"user nobody cannot reach {sys.executable}: the checkout lies in a private folder")
    line = the_line(user(command, folder, *nobody))
    assert "root" in line
    assert not (folder / "out.cap").exists()


@needs_root
@pytest.mark.parametrize(
    ("taken", "named"), [("all", "CAP_"), ("bpf,-sys_admin", "CAP_BPF"), ("perfmon,-sys_admin", "CAP_PERFMON")]
)
def test_without_capabilities(taken: str, named: str, folder: Path) -> None:
    """Root in a container that was given too little is told which capability is missing."""
    setpriv = [tool("setpriv", "util-linux"), f"--bounding-set=-{taken}", f"--inh-caps=-{taken}"]
    line = the_line(user(["run"], folder, *setpriv))
    assert named in line


@needs_root
def test_tracefs_is_mounted_when_it_is_not(tier: str, folder: Path, run: str) -> None:
    """The collector mounts tracefs itself, and traces."""
    server = servers.start("go", folder)
    with Collector(folder, tier=tier, ports=[server.port], wrapper=unshared(UNTRACED)) as collector, server:
        asked = ask("go", app_plan(run, base_url("v4", server.port), 19, agent="go"), folder)
    truth.assert_equal(expect.both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")


@needs_root
@pytest.mark.parametrize(
    ("hidden", "remedy"),
    [("/usr/lib/python3/dist-packages/bcc", "python3-bpfcc"), ("/sys/kernel/btf", "BTF")],
    ids=["bcc", "btf"],
)
def test_something_is_missing(hidden: str, remedy: str, folder: Path) -> None:
    """BCC's package, or a kernel that tells its types."""
    if not Path(hidden).exists():
        pytest.skip(f"{hidden} is not there to be hidden")
    line = the_line(in_own_mounts(f"mount -t tmpfs none {hidden}; ", ["run"], folder))
    assert remedy in line


@needs_root
def test_a_tier_the_kernel_lacks(folder: Path) -> None:
    """Asked for by name, a tier that cannot be is an error; left to the collector, it takes the other."""
    if Path("/sys/bus/event_source/devices/kprobe").exists():
        pytest.skip("this kernel has kprobes")
    line = the_line(user(["run", "--tier", "kprobe"], folder))
    assert "kprobe" in line
    assert "tracepoint" in line


@needs_root
def test_the_health_port_is_taken(folder: Path) -> None:
    """Told before anything is traced."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = the_line(user(["run", "--listen", f"127.0.0.1:{port}"], folder))
    assert f"127.0.0.1:{port}" in line
    assert "--listen" in line


@needs_root
def test_a_file_that_cannot_be_written(folder: Path) -> None:
    """Neither spans nor records."""
    for command in (["run", "--export", "file:/nowhere/spans.jsonl"], ["record", "/nowhere/out.cap"]):
        assert "/nowhere/" in the_line(user(command, folder))


def test_settings_that_cannot_be(folder: Path) -> None:
    """File, line and key, and the nearest valid key."""
    config = folder / "otelbpf.yaml"
    config.write_text("# a comment\nfilters:\n  ports: [80]\ncapture:\n  ring_byte: 1MiB\n")
    line = the_line(user(["run", "--config", config], folder))
    assert f"{config}:5" in line
    assert "ring_bytes" in line
    for command in (["run", "--port", "70000"], ["run", "--tier", "magic"], ["run", "--duration", "soon"], ["walk"]):
        the_line(user(command, folder), status=2)


def test_captures_that_cannot_be(folder: Path) -> None:
    """No file, an empty one, a folder, other bytes, packets without TCP."""
    (folder / "empty").touch()
    (folder / "noise").write_bytes(bytes(range(256)) * 9)
    # A pcap file of no packets: magic, version 2.4, zone, accuracy, length limit, Ethernet.
    pcap = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    (folder / "empty.pcap").write_bytes(pcap)
    for name in ("none", "empty", "noise", ".", "empty.pcap"):
        result = user(["replay", folder / name, "--export", "none"], folder)
        line = next(line for line in result.stderr.splitlines() if line.startswith("otelbpf: error: "))
        assert result.returncode == 1, name
        assert "Traceback" not in result.stderr
        assert str(folder / name) in line


def test_help_teaches(folder: Path) -> None:
    """Every command explains itself on standard output, and needs no rights for it."""
    for command in ([], ["run"], ["record"], ["replay"], ["doctor"], ["config"]):
        result = otelbpf(*command, "--help", folder=folder)
        assert (result.returncode, result.stderr) == (0, "")
        assert len(result.stdout.splitlines()) > 5


def test_interrupted_while_it_starts(folder: Path) -> None:
    """Ctrl-C before it is ready ends it, quietly."""
    with Running([*COMMAND, "run", "--listen", "off"], folder=folder, name="otelbpf", environment=CLEAN) as running:
        running.process.send_signal(2)
        assert running.wait(within_seconds=20) in (0, 130, -2)
    assert "Traceback" not in running.output()
