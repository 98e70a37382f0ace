"""Files as sources, told apart by their first bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from otelbpf.errors import CaptureError
from otelbpf.events import capture
from otelbpf.sources import packet_file
from otelbpf.sources.base import Source
from otelbpf.sources.capture import CaptureSource
from otelbpf.sources.pcap import PacketSource

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")


def open_replay(path: str | Path) -> Source:
    """The source over a capture file, a pcap or a pcapng file. Raises CaptureError where it is none of them."""
    try:
        # It is read twice, from its beginning. Opening a pipe would wait for who writes to it.
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise CaptureError(f"{path} is a pipe", "write what comes through it to a file, and replay that")
        with open(path, "rb") as file:
            head = file.read(len(capture.MAGIC))
    except OSError as error:
        raise CaptureError(f"cannot read {path}: {error.strerror}", "check the path") from None
    if head.startswith(packet_file.MAGICS):
        return PacketSource(path)
    if head.startswith(capture.MAGIC):
        return CaptureSource(path)
    if not head:
        raise CaptureError(f"{path} is empty", "record again")
    if head.startswith(_COMPRESSED):
        raise CaptureError(f"{path} is compressed", "decompress it first")
    raise CaptureError(
        f"{path} is neither a capture nor a packet file (pcap, pcapng)", "make one with: otelbpf record FILE"
    )
