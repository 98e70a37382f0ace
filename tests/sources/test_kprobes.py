"""What is read of tracefs and written to it, with files in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbpf.errors import KernelError, PrivilegeError
from otelbpf.sources import kprobes

EVENTS = """\
p:kprobes/somebody_elses tcp_sendmsg
p:otelbpf_11_5/tcp_sendmsg_p tcp_sendmsg
r4096:otelbpf_11_5/tcp_recvmsg_r tcp_recvmsg
r4096:otelbpf_12_6/tcp_recvmsg_r tcp_recvmsg
"""
PROFILE = """\
  somebody_elses                                         900               90
  tcp_sendmsg_p                                          100                1
  tcp_recvmsg_r                                          200               22
  tcp_recvmsg_r                                          300              333
"""


@pytest.fixture
def tracefs(tmp_path: Path) -> Path:
    (tmp_path / "kprobe_events").write_text(EVENTS)
    (tmp_path / "kprobe_profile").write_text(PROFILE)
    return tmp_path


@pytest.mark.parametrize(
    ("events", "count"),
    [
        (["otelbpf_11_5/tcp_sendmsg_p", "otelbpf_11_5/tcp_recvmsg_r"], 23),
        (["otelbpf_12_6/tcp_recvmsg_r"], 333),
        (["otelbpf_11_6/tcp_recvmsg_r"], 0),
    ],
)
def test_only_the_own_missed_calls_are_counted(tracefs: Path, events: list[str], count: int) -> None:
    assert kprobes.missed(events, folder=tracefs) == count


def test_what_a_killed_collector_left_is_removed_and_nothing_else(tracefs: Path) -> None:
    proc = tracefs / "proc"
    (proc / "12").mkdir(parents=True)

    assert kprobes.remove_abandoned(folder=tracefs, proc=proc) == [
        "otelbpf_11_5/tcp_sendmsg_p",
        "otelbpf_11_5/tcp_recvmsg_r",
    ]
    written = (tracefs / "kprobe_events").read_text().removeprefix(EVENTS)
    assert written == "-:otelbpf_11_5/tcp_sendmsg_p\n-:otelbpf_11_5/tcp_recvmsg_r\n"


def test_a_kernel_without_kprobes_has_nothing_to_remove(tmp_path: Path) -> None:
    assert kprobes.remove_abandoned(folder=tmp_path) == []
    assert kprobes.missed(["otelbpf_11_5/tcp_sendmsg_p"], folder=tmp_path) == 0


def test_what_keeps_kprobes_from_being_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events").mkdir()
    monkeypatch.setattr(kprobes, "_TRACEFS", (tmp_path,))
    with pytest.raises(KernelError, match=r"^this kernel has no kprobes; "):
        kprobes.require()

    (tmp_path / "kprobe_events").touch()
    kprobes.require()


def test_a_tracefs_that_may_not_be_read_is_a_lack_of_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def __truediv__(self, name: str) -> Closed:
            return self

        def is_dir(self) -> bool:
            raise PermissionError(13, "Permission denied")

        def __str__(self) -> str:
            return "/sys/kernel/tracing"

    monkeypatch.setattr(kprobes, "_TRACEFS", (Closed(),))
    with pytest.raises(PrivilegeError) as caught:
        kprobes.require()
    assert str(caught.value) == "/sys/kernel/tracing may not be read; run as root, or with CAP_DAC_READ_SEARCH"
    assert kprobes.remove_abandoned() == []


def test_a_tracepoint_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "events" / "sock" / "sk_data_ready").mkdir(parents=True)

    assert kprobes.has_tracepoint("sock", "sk_data_ready", folder=tmp_path)
    assert not kprobes.has_tracepoint("sock", "sock_send_length", folder=tmp_path)
