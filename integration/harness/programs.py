"""The workload's own small programs, compiled once into the cache and again when their source changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.harness.processes import CACHE, ROOT

SOURCES = ROOT / "integration" / "programs"


def tool(name: str, package: str, *elsewhere: str) -> str:
    """The path of a program this test needs; the test is skipped, with the package to install, where it is missing."""
    found = shutil.which(name) or next((path for path in elsewhere if Path(path).exists()), None)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


def go() -> str:
    """The Go toolchain."""
    return tool("go", "golang-go", "/usr/local/go/bin/go")


def built(source: str, make: str) -> Path:
    """Where the product of `source` lies: a folder named by the source and its digest."""
    digest = hashlib.sha256((SOURCES / source).read_bytes() + make.encode()).hexdigest()[:16]
    return CACHE / "programs" / f"{source.replace('.', '-').replace('/', '-')}-{digest}"


def go_program(source: str) -> Path:
    """`source` compiled by Go, statically, so that it runs on any kernel's guest as well."""
    place = built(source, "go")
    if not (place / "program").exists():
        place.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GO111MODULE": "off"}
        command = [go(), "build", "-o", str(place / "building"), str(SOURCES / source)]
        subprocess.run(command, check=True, env=environment)
        (place / "building").rename(place / "program")
    return place / "program"


def c_program(source: str, *libraries: str) -> Path:
    """`source` compiled by clang, which BCC's package brings along, and linked with files of `libraries`."""
    linked = [f"-l:{library}" for library in libraries]
    place = built(source, " ".join(("c", *linked)))
    if not (place / "program").exists():
        place.mkdir(parents=True, exist_ok=True)
        compiler = tool("clang", "clang", "/usr/bin/clang-14", "/usr/bin/cc")
        command = [compiler, "-O1", "-Wall", "-Werror", "-o", str(place / "building"), str(SOURCES / source)]
        subprocess.run([*command, *linked], check=True)
        (place / "building").rename(place / "program")
    return place / "program"


def java_classes(source: str, jars: Sequence[Path] = ()) -> str:
    """Where `source`'s classes are, and the `jars` they need, for `java -cp`."""
    place = built(source, "java")
    if not (place / source.replace(".java", ".class")).exists():
        place.mkdir(parents=True, exist_ok=True)
        needs = ["-cp", ":".join(map(str, jars))] if jars else []
        subprocess.run([tool("javac", "default-jdk-headless"), *needs, "-d", place, SOURCES / source], check=True)
    return ":".join(map(str, (place, *jars)))


def grpc_jars() -> list[Path]:
    """What a program with grpc-java needs, of Debian's packages."""
    folder = Path("/usr/share/java")
    netty = ["buffer", "codec", "codec-http", "codec-http2", "codec-socks", "common", "handler", "handler-proxy"]
    netty += ["resolver", "transport", "transport-native-unix-common"]
    names = [f"grpc-{part}" for part in ("api", "context", "core", "netty", "stub")]
    names += [f"netty-{part}" for part in netty]
    jars = [folder / f"{name}.jar" for name in (*names, "guava", "perfmark-api")]
    missing = [jar.name for jar in jars if not jar.exists()]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian package libgrpc-java)")
    return jars


def go_module(name: str) -> Path:
    """The program of a Go module in its folder, with the versions of its go.sum; skipped where they cannot be had."""
    folder = SOURCES / name
    place = built(f"{name}/main.go", (folder / "go.sum").read_text())
    if not (place / "program").exists():
        place.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOTOOLCHAIN": "local", "GONOSUMDB": "*", "GOFLAGS": "-mod=readonly"}
        command = [go(), "build", "-o", str(place / "building"), "."]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"the Go module {name} cannot be built here: {result.stderr.strip()[-400:]}")
        (place / "building").rename(place / "program")
    return place / "program"


def node_modules(package: str) -> Path:
    """A folder that a package of npm's and what it needs is installed in; skipped where it cannot be had."""
    place = CACHE / "programs" / f"npm-{hashlib.sha256(package.encode()).hexdigest()[:16]}"
    if not (place / "done").exists():
        place.mkdir(parents=True, exist_ok=True)
        options = ["--no-package-lock", "--ignore-scripts", "--prefix", str(place)]
        command = [tool("npm", "npm"), "install", *options, package]
        result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"{package} cannot be installed here: {result.stderr.strip()[-400:]}")
        (place / "done").touch()
    return place
