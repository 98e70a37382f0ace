"""Debian's kernels: fetched once into the cache by apt-get, unpacked, and made bootable with a small initramfs."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from integration.harness.processes import CACHE
from integration.harness.programs import tool

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
"""The Debian release that has each kernel."""
MODULES = ("virtio_pci", "virtio_rng", "9pnet_virtio", "9p", "overlay", "tls", "gcm", "ghash_generic", "ctr")
"""What reaches the host's files, and what TLS within the kernel needs: guests load no module later."""
INIT = Path(__file__).with_name("init.sh")


class Unavailable(Exception):
    """A kernel cannot be had here, and why."""


class Kernel(msgspec.Struct, frozen=True):
    """What QEMU boots."""

    image: Path
    initramfs: Path


def kernel(version: str) -> Kernel:
    """Debian's kernel of this version, from the cache or the archive."""
    home = CACHE / "kernels" / version
    home.mkdir(parents=True, exist_ok=True)
    unpacked = home / "unpacked"
    if not unpacked.exists():
        part = home / "unpacking"
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run(["dpkg", "-x", package(version, home), part], check=True)
        (part / "lib/modules").mkdir(parents=True, exist_ok=True)
        (release,) = [path.name for path in (*(part / "lib/modules").iterdir(), *part.glob("usr/lib/modules/*"))]
        if (part / "usr/lib/modules" / release).exists():
            (part / "usr/lib/modules" / release).rename(part / "lib/modules" / release)
        subprocess.run([tool("depmod", "kmod", "/usr/sbin/depmod"), "-b", part, release], check=True)
        part.rename(unpacked)
    (image,) = unpacked.glob("boot/vmlinuz-*")
    initramfs = home / "initramfs"
    made_of = max(source.stat().st_mtime for source in (INIT, Path(__file__)))
    if not initramfs.exists() or initramfs.stat().st_mtime < made_of:
        make_initramfs(unpacked, image.name.removeprefix("vmlinuz-"), initramfs)
    return Kernel(image, initramfs)


def package(version: str, home: Path) -> Path:
    """The kernel's package file; downloaded with lists and sources of its own: the host's apt is left alone."""
    for known in home.glob("linux-image-*.deb"):
        return known
    apt = home / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {SUITES[version]} main\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    try:
        subprocess.run(["apt-get", *words, "-qq", "update"], check=True, capture_output=True, text=True, timeout=180)
        told = subprocess.run(
            ["apt-cache", *words, "depends", "linux-image-amd64"], check=True, capture_output=True, text=True
        ).stdout
        name = next(line.split()[-1] for line in told.splitlines() if "Depends: linux-image-" in line)
        subprocess.run(
            ["apt-get", *words, "-qq", "download", name],
            check=True, capture_output=True, text=True, timeout=300, cwd=home,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        why = getattr(error, "stderr", "") or error
        raise Unavailable(f"no Debian kernel {version}: {why}") from None
    finally:
        shutil.rmtree(apt, ignore_errors=True)
    (found,) = home.glob("linux-image-*.deb")
    return found


def make_initramfs(unpacked: Path, release: str, target: Path) -> None:
    """busybox, the modules, and the init script."""
    root = target.with_name("initramfs.parts")
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "modules", "proc", "sys", "dev"):
        (root / folder).mkdir(parents=True)
    shutil.copy(tool("busybox", "busybox-static"), root / "bin/busybox")
    modprobe = [tool("modprobe", "kmod", "/usr/sbin/modprobe"), "-d", str(unpacked), "-S", release, "--show-depends"]
    order: list[str] = []
    for module in MODULES:
        told = subprocess.run([*modprobe, module], check=False, capture_output=True, text=True).stdout
        for line in told.splitlines():
            if line.startswith("insmod "):  # the others are built in
                path = Path(line.split()[1])
                name = path.name.removesuffix(".xz")
                content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
                (root / "modules" / name).write_bytes(content)
                order += [name] if name not in order else []
    (root / "modules/order").write_text("\n".join(order))
    shutil.copy(INIT, root / "init")
    (root / "init").chmod(0o755)
    names = [str(path.relative_to(root)) for path in sorted(root.rglob("*"))]
    archive = subprocess.run(
        [tool("cpio", "cpio"), "--create", "--format=newc", "--quiet"],
        input="\n".join(names).encode(), stdout=subprocess.PIPE, check=True, cwd=root,
    ).stdout  # fmt: skip
    building = target.with_suffix(".new")
    building.write_bytes(archive)
    os.replace(building, target)
    shutil.rmtree(root)
