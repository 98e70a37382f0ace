"""Runs a command in a guest: another kernel, this host's files, a fresh /tmp; results come back in a folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from integration.harness.programs import tool
from integration.vm.kernels import Kernel

EMULATED_SLOWDOWN = 12
"""How many times slower than bare metal a guest is whose processor is emulated."""


class Ended(msgspec.Struct, frozen=True):
    """What became of it."""

    status: int | None
    """None: the guest did not get so far."""
    output: str
    console: str


def accelerated() -> bool:
    """Whether the processor can do it itself. /dev/kvm alone does not say so: there are hosts that offer it only to
    kernels made for them, and a Debian kernel hangs there."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def slowdown() -> int:
    """For INTEGRATION_SLOW in the guest."""
    return 1 if accelerated() else EMULATED_SLOWDOWN


def run(
    kernel: Kernel,
    command: str,
    results: Path,
    *,
    within_seconds: float,
    memory_mib: int = 4096,
    large: Sequence[Path] | None = None,
) -> Ended:
    """Boot `kernel`, run the bash script `command` as root with `results` mounted at /results, switch off. `large`
    files are fetched first, those of BCC unless told."""
    qemu = tool("qemu-system-x86_64", "qemu-system-x86")
    results.mkdir(parents=True, exist_ok=True)
    (results / "command").write_text(command)
    (results / "fetch").write_text("".join(f"{path}\n" for path in large or large_libraries()))
    argv: list[str | Path] = [
        qemu, "-machine", "q35", "-m", str(memory_mib), "-smp", "2", "-nographic", "-no-reboot", "-nodefaults",
        "-serial", "stdio",
        *(("-accel", "kvm", "-cpu", "host") if accelerated() else ("-accel", "tcg,thread=multi", "-cpu", "max")),
        "-kernel", kernel.image, "-initrd", kernel.initramfs,
        "-append", "console=ttyS0 quiet panic=-1",
        *folder("host", "/,readonly=on"), *folder("pieces", "/,readonly=on"), *folder("results", str(results)),
    ]  # fmt: skip
    console = results / "console"
    with console.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    status = results / "status"
    said = results / "output"
    return Ended(
        status=int(status.read_text()) if status.exists() and status.read_text().strip() else None,
        output=said.read_text(errors="replace") if said.exists() else "",
        console=console.read_text(errors="replace"),
    )


def folder(name: str, path: str) -> list[str]:
    """A folder of this host, as the guest can mount it by name (once)."""
    shared = f"local,id={name},security_model=none,multidevs=remap,path={path}"
    return ["-fsdev", shared, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]


def large_libraries() -> list[Path]:
    """The compiler that comes with BCC: some hundred megabytes of which a guest maps nearly all."""
    told = subprocess.run(["ldd", "/usr/lib/x86_64-linux-gnu/libbcc.so.0"], check=False, capture_output=True, text=True)
    words = [line.split() for line in told.stdout.splitlines()]
    found = {Path(line[2]).resolve() for line in words if len(line) > 2 and line[2].startswith("/")}
    found.add(Path("/usr/lib/x86_64-linux-gnu/libbcc.so.0").resolve())
    return sorted(path for path in found if path.exists() and path.stat().st_size > 1 << 20)
