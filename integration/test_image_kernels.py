"""The image's files on Debian's kernels 5.10, 6.1 and 6.12: their BCC, LLVM and Python serve each of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import balance, spans
from integration.harness.docker import BUILD_SECONDS, IMAGE, Engine
from integration.harness.pair import COUNT, PROGRAM, assert_told, expected
from integration.harness.processes import CACHE
from integration.harness.secured import Certificate, certificate
from integration.vm import guest
from integration.vm.kernels import SUITES, Unavailable, kernel

GUEST_SECONDS = 600
LARGE_BYTES = 2 << 20
CAPABILITIES = "-all,+sys_admin,+sys_ptrace,+dac_read_search,+checkpoint_restore"
"""A guest's own programs run in a chroot, where libraries are found as replaced ones are: by CHECKPOINT_RESTORE."""

pytestmark = pytest.mark.timeout(BUILD_SECONDS + GUEST_SECONDS)


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """The image's files, where a guest sees them: its /tmp is its own."""
    folder = CACHE / "image-files"
    shutil.rmtree(folder, ignore_errors=True)
    with Engine() as engine:
        engine.build_otelbpf()
        engine.unpack(IMAGE, folder)
    yield folder
    shutil.rmtree(folder)


def script(files: Path, identity: Certificate) -> str:
    """Collector, server, client, in this order; the end of the collector is the end."""
    program = f"/usr/bin/python3 {PROGRAM}"
    ports = f"18080 18443 {identity.file}"
    return f"""
uname -r
mount --bind {files} /mnt
for folder in proc sys dev; do mount --rbind /$folder /mnt/$folder; done
ulimit -l unlimited
chroot /mnt setpriv --bounding-set={CAPABILITIES} --inh-caps=-all --no-new-privs /opt/otelbpf/bin/otelbpf run \\
  --export file:- --port 18080,18443 > /results/spans 2> /results/stderr &
collector=$!
until grep -q ^ready /results/stderr; do sleep 1; done
{program} serve {ports} {identity.key} &
server=$!
# Programs are looked at every five seconds for a library of TLS.
sleep 12
{program} ask {ports} guest {COUNT}
sleep 3
chroot /mnt /opt/otelbpf/bin/otelbpf health || exit
kill $collector
wait $collector || exit
kill $server
"""


@pytest.mark.parametrize("version", SUITES)
def test_the_image_s_files_serve_this_kernel(version: str, files: Path, tmp_path: Path) -> None:
    """Exactly the spans of the requests made, in plain text and in TLS, by the kprobe tier, and an end in order."""
    home = files / "identity"
    home.mkdir(exist_ok=True)
    large = [path for path in files.rglob("*.so*") if path.is_file() and path.stat().st_size > LARGE_BYTES]
    try:
        booted = kernel(version)
    except Unavailable as reason:
        pytest.skip(str(reason))
    ended = guest.run(
        booted, script(files, certificate(home)), tmp_path, within_seconds=GUEST_SECONDS, large=sorted(large)
    )
    said = (tmp_path / "stderr").read_text()
    assert ended.status == 0, f"{ended.output}\n{said}\n{ended.console[-2000:]}"
    assert "\nready tier=kprobe " in f"\n{said}"
    assert_told(spans.read(tmp_path / "spans"), expected("guest", "secured_pair"))
    balance.parse(said).assert_balanced()
