"""A Docker engine of the test's own: its images stay in the cache, its socket and its containers end with it.

There is no image registry: a base image is made by debootstrap from Debian's archive, under the tag that the
Dockerfiles name, as slim as the published one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from integration.harness.processes import CACHE, ROOT, Running, wait_for
from integration.harness.programs import tool

BASE = "debian:trixie-slim"
IMAGE = "otelbpf"
BUILD_SECONDS = 1200
"""Three minutes on two processors; Debian's mirrors decide."""
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_OWN_AUTHORITIES = Path("/usr/local/share/ca-certificates")
# As debuerreotype makes the published image slim.
_LEFT_OUT = ("doc", "info", "lintian", "locale", "man")


class Engine:
    """dockerd at work, without rules of iptables and without a bridge of its own."""

    def __init__(self) -> None:
        dockerd = tool("dockerd", "docker.io", "/usr/sbin/dockerd")
        self._client = tool("docker", "docker.io")
        # A socket's path is short.
        self._folder = Path(tempfile.mkdtemp(prefix="engine-"))
        self.socket = self._folder / "docker.sock"
        command: list[str | Path] = [dockerd, "--host", f"unix://{self.socket}", "--pidfile", self._folder / "pid"]
        command += ["--data-root", CACHE / "docker", "--exec-root", self._folder / "run"]
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]
        (CACHE / "docker").mkdir(parents=True, exist_ok=True)
        self.running = Running(command, folder=self._folder, name="dockerd")
        wait_for("dockerd", self._serves, within_seconds=60, otherwise=self.running.output)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        names = self("ps", "--all", "--quiet").split()
        if names:
            self("rm", "--force", "--volumes", *names)
        self("network", "prune", "--force")
        # What later builds go on from stays for a while, and not for ever.
        self("image", "prune", "--force", "--filter=until=48h")
        self.running.stop(within_seconds=30)
        for namespace in self._folder.glob("run/netns/*"):  # which the engine leaves mounted
            subprocess.run(["umount", namespace], check=True)
        shutil.rmtree(self._folder)

    def _serves(self) -> bool:
        if not self.running.alive():
            pytest.skip(f"no Docker engine can be started here: {self.running.output()[-400:]}")
        command = [self._client, "info"]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    @property
    def environment(self) -> dict[str, str]:
        """Of a command that speaks to this engine."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def __call__(self, *words: str | Path, seconds: float = 60) -> str:
        """What a command of docker prints; an AssertionError where it fails."""
        return run([self._client, *words], environment=self.environment, seconds=seconds)

    def logs(self, name: str) -> subprocess.CompletedProcess[str]:
        """What a container wrote, standard output and error apart."""
        command = [self._client, "logs", name]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        (found,) = json.loads(self("inspect", name))
        assert isinstance(found, dict)
        return found

    def unpack(self, image: str, folder: Path) -> None:
        """An image's files in a folder."""
        container = self("create", image)
        packed = folder.with_suffix(".tar")
        self("export", "--output", packed, container)
        folder.mkdir()
        run(["tar", "-C", folder, "-xf", packed], environment=os.environ, seconds=60)
        packed.unlink()

    def import_base(self) -> None:
        """BASE, unless it is there."""
        if not self("images", "--quiet", BASE):
            # pip believes whom the base believes.
            self("import", f"--change=ENV PIP_CERT={_AUTHORITIES}", base(), BASE)

    def build(self, folder: Path, tag: str) -> None:
        """An image from a Dockerfile; layers that are in the cache are not made again."""
        self.import_base()
        self("build", "--quiet", "--network=host", "--tag", tag, folder, seconds=BUILD_SECONDS)

    def build_otelbpf(self) -> None:
        """The image of this checkout."""
        self.build(ROOT, IMAGE)


def run(command: list[str | Path], *, environment: Mapping[str, str], seconds: float) -> str:
    """A command's standard output; an AssertionError with all it said where it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def base() -> Path:
    """A tar file of Debian's smallest system, made once."""
    made = CACHE / "images" / f"base-{hashlib.sha256(_AUTHORITIES.read_bytes()).hexdigest()[:16]}.tar"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        root = Path(folder, "root")
        command: list[str | Path] = [
            tool("debootstrap", "debootstrap", "/usr/sbin/debootstrap"),
            "--variant=minbase",
            "trixie",
            root,
        ]
        run(command, environment=os.environ, seconds=BUILD_SECONDS)
        for below in ("var/cache/apt", "var/lib/apt/lists", "var/log", *(f"usr/share/{name}" for name in _LEFT_OUT)):
            shutil.rmtree(root / below, ignore_errors=True)
            (root / below).mkdir()
        rules = "".join(f"path-exclude /usr/share/{name}/*\n" for name in _LEFT_OUT)
        (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(rules)
        # Both: the package that a later layer installs makes the file anew, from the folder.
        believed = root / _AUTHORITIES.relative_to("/")
        believed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_AUTHORITIES, believed)
        if _OWN_AUTHORITIES.is_dir():
            shutil.copytree(_OWN_AUTHORITIES, root / _OWN_AUTHORITIES.relative_to("/"), dirs_exist_ok=True)
        new = made.with_suffix(".new")
        run(["tar", "-C", root, "-cf", new, "."], environment=os.environ, seconds=60)
        new.rename(made)
    return made
