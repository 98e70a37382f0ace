"""The files by which a host or a cluster starts the collector: understood by those who read them, and enough for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from integration.harness import balance, expect, servers, truth
from integration.harness.clients import ask
from integration.harness.collector import Collector
from integration.harness.plan import app_plan, base_url
from integration.harness.processes import CACHE, ROOT
from integration.harness.programs import tool

UNIT = ROOT / "packaging" / "otelbpf.service"
MANIFEST = ROOT / "config" / "kubernetes" / "otelbpf.yaml"
VALIDATOR = "kubernetes-validate==1.37.0"
CLUSTERS = ("1.30", "1.37")
"""The oldest that knows every field, and the newest of that validator."""


def setting(name: str) -> str:
    """What the unit's one line of that name says."""
    (value,) = [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]
    return value


def test_systemd_understands_the_unit(folder: Path) -> None:
    """No word of it is unknown or ignored. (The program it starts need not be installed here.)"""
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace(setting("ExecStart"), "/bin/true"))
    command = [tool("systemd-analyze", "systemd"), "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectClock=yes", "ProtectCloak=yes"))
    assert "ProtectCloak" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_the_unit_s_capabilities_are_enough(tier: str, folder: Path, run: str) -> None:
    """With them alone everything is told, TLS is looked into and processes are named."""
    bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities())])
    bounded: list[str | Path] = [
        tool("setpriv", "util-linux"),
        f"--bounding-set={bounds}",
        "--inh-caps=-all",
        "--no-new-privs",
        "--",
    ]
    server = servers.start("go", folder)
    with Collector(folder, tier=tier, ports=[server.port], wrapper=bounded, tls=True) as collector, server:
        asked = ask("go", app_plan(run, base_url("v4", server.port), 23, agent="go"), folder)
    truth.assert_equal(expect.both_ends(asked, server), collector.spans(), exact_sends=tier == "kprobe")
    assert "capture.limited" not in collector.stderr()
    balance.parse(collector.stderr()).assert_balanced()


def capabilities() -> list[str]:
    """Those that the unit leaves."""
    return setting("CapabilityBoundingSet").split()


def test_the_unit_s_system_calls_are_enough(tier: str, folder: Path) -> None:
    """Every one that a run makes is one that the filter lets pass."""
    traced = folder / "calls"
    wrapper: list[str | Path] = [tool("strace", "strace"), "-f", "-qq", "-o", traced]
    collector = Collector(folder, "--duration", "2s", tier=tier, ports=[1], wrapper=wrapper, tls=True).ready()
    assert collector.running.wait(within_seconds=60) == 0, collector.stderr()
    calls = {line.split(maxsplit=1)[1].partition("(")[0] for line in traced.read_text().splitlines() if "(" in line}
    made = {name for name in calls if name.isidentifier()}
    assert {"bpf", "capset"} <= made
    assert made - allowed(setting("SystemCallFilter").split()) == set()


def allowed(names: list[str]) -> set[str]:
    """The system calls of a filter, groups spelled out."""
    found: set[str] = set()
    for name in names:
        if name.startswith("@"):
            command = [tool("systemd-analyze", "systemd"), "syscall-filter", name]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
            found |= allowed([line.strip() for line in lines if line.strip() and not line.strip().startswith("#")])
        else:
            found.add(name)
    return found


def validator() -> Path:
    """A folder with the validator and the schemas of every Kubernetes; skipped where it cannot be had."""
    place = CACHE / "programs" / VALIDATOR
    if not place.exists():
        building = place.with_suffix(".new")
        shutil.rmtree(building, ignore_errors=True)
        command: list[str | Path] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        command += ["--target", building, VALIDATOR]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"{VALIDATOR} cannot be installed here: {result.stderr.strip()[-400:]}")
        building.rename(place)
    return place


def validate(document: object, version: str) -> subprocess.CompletedProcess[str]:
    """What the validator says of a document for this version of Kubernetes, unknown fields forbidden."""
    program = "import json, sys, kubernetes_validate as k; k.validate(json.load(sys.stdin), sys.argv[1], strict=True)"
    environment = {**os.environ, "PYTHONPATH": str(validator())}
    command = [sys.executable, "-c", program, version]
    given = json.dumps(document)
    return subprocess.run(command, input=given, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", CLUSTERS)
def test_kubernetes_understands_the_manifest(version: str) -> None:
    """Every document by its schema; one with a field that does not exist would be refused."""
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    kinds = [document["kind"] for document in documents]
    assert kinds == ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]
    for document in documents:
        assert validate(document, version).returncode == 0, validate(document, version).stderr
    documents[-1]["spec"]["template"]["spec"]["hostPid"] = True
    assert "hostPid" in validate(documents[-1], version).stderr


def test_the_manifest_asks_for_the_same_capabilities() -> None:
    """As the unit, of a container that has no others."""
    *_, daemons = yaml.safe_load_all(MANIFEST.read_text())
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    context = container["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in context["capabilities"]["add"]] == capabilities()
    assert context["readOnlyRootFilesystem"]
