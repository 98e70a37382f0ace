"""Finding services from a /proc of files and links."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from otelbpf.sources.listeners import find_services

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def _row(inode: int, state: str = "0A") -> str:
    counters = "00000000:00000000 00:00000000 00000000     0        0"
    return f"   0: 0100007F:1F90 00000000:0000 {state} {counters} {inode} 1 0 0\n"


def _process(proc: Path, pid: int, *, namespace: int, sockets: tuple[int, ...], tcp: str = "", tcp6: str = "") -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "ns").mkdir()
    (folder / "net").mkdir()
    (folder / "ns" / "net").symlink_to(f"net:[{namespace}]")
    (folder / "net" / "tcp").write_text(HEAD + tcp)
    (folder / "net" / "tcp6").write_text(HEAD + tcp6)
    (folder / "fd" / "0").symlink_to("/dev/null")
    for number, inode in enumerate(sockets, 3):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


def test_a_master_and_its_workers_are_one_service(tmp_path: Path) -> None:
    table = _row(11) + _row(12)
    for pid, sockets in ((100, (11, 12)), (101, (11, 12)), (102, (12,))):
        _process(tmp_path, pid, namespace=1, sockets=sockets, tcp=table)

    assert find_services(tmp_path) == [100]


def test_both_families_and_every_namespace_count_and_only_listeners(tmp_path: Path) -> None:
    here = {"tcp": _row(11) + _row(20, state="01"), "tcp6": _row(12)}
    _process(tmp_path, 100, namespace=1, sockets=(11,), **here)
    _process(tmp_path, 101, namespace=1, sockets=(12,), **here)
    _process(tmp_path, 102, namespace=1, sockets=(20, 99), **here)
    _process(tmp_path, 103, namespace=2, sockets=(13,), tcp=_row(13))
    (tmp_path / "self").mkdir()

    assert len(find_services(tmp_path)) == 3


def test_only_those_asked_for_count(tmp_path: Path) -> None:
    """By port and by process; a worker that is asked for counts where its master is not."""
    here = {"tcp": _row(11) + _row(12).replace(":1F90", ":0050")}
    _process(tmp_path, 100, namespace=1, sockets=(11,), **here)
    _process(tmp_path, 101, namespace=1, sockets=(12,), **here)
    _process(tmp_path, 102, namespace=1, sockets=(12,), **here)

    assert find_services(tmp_path) == [100, 101]
    assert find_services(tmp_path, ports=(8080,)) == [100]
    assert find_services(tmp_path, ports=(80, 9000)) == [101]
    assert find_services(tmp_path, pids=(102, 4242)) == [102]
    assert find_services(tmp_path, ports=(8080,), pids=(102,)) == []


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    _process(tmp_path, 100, namespace=1, sockets=(11,), tcp="torn line\n" + _row(11) + _row(12))
    (tmp_path / "101").mkdir()

    assert len(find_services(tmp_path)) == 1
    assert len(find_services(tmp_path / "nowhere")) == 0


def test_this_very_process_counts_while_it_listens(tmp_path: Path) -> None:
    (tmp_path / str(os.getpid())).symlink_to("/proc/self")

    assert len(find_services(tmp_path)) == 0
    with socket.create_server(("127.0.0.1", 0)):
        assert len(find_services(tmp_path)) == 1
        assert len(find_services(tmp_path, but=os.getpid())) == 0
    assert len(find_services(tmp_path)) == 0
