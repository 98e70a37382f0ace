"""Processes are read from /proc, or a folder made like it; nothing that lacks or breaks raises."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from otelbpf.events.types import Identity
from otelbpf.sources import processes
from otelbpf.sources.processes import describe
from otelbpf.sources.users import Users

ID = "0123456789abcdef" * 4
STAT = "4242 (a name) of) S 17 4242 4242 0 -1 4194560 1 0 0 0 2 1 0 0 20 0 4 0 700 1000 50 18446744073709551615 1 1 0"
FILES = {
    "stat": STAT,
    "cmdline": "/usr/bin/python3\0-m\0http.server\0--token=abc\0",
    "cgroup": "0::/system.slice/web.service\n",
    "status": "Name:\tpython3\nUid:\t0\t33\t33\t33\nGid:\t33\t33\t33\t33\n",
    "environ": "HOME=/\0OTEL_SERVICE_NAME=shop\0KEY=x\0OTEL_RESOURCE_ATTRIBUTES=a=b,c=d%20e\0XOTEL_SERVICE_NAME=no\0",
}
COMMAND = ("/usr/bin/python3", "-m", "http.server", "--token=REDACTED")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process."""
    make(tmp_path / "proc", FILES, executable="/usr/bin/python3.11")
    return tmp_path / "proc"


@pytest.fixture
def users(tmp_path: Path) -> Users:
    """Two users."""
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nwww-data:x:33:33:::\nagain:x:33:::\nbroken\nx:x:y\n")
    return Users(tmp_path / "passwd")


ZOMBIE = dict.fromkeys(FILES, "") | {"stat": STAT.replace("4242 ", "4300 ", 1).replace(" 700 ", " 900 ")}


@pytest.mark.parametrize("left", [{}, ZOMBIE])
def test_a_process_that_has_ended_ran_the_program_of_the_one_it_was_forked_from(
    left: dict[str, str], proc: Path, users: Users
) -> None:
    """A server's child for one connection: gone, or not reaped yet."""
    if left:
        make(proc, left, pid=4300)
    found = describe(4300, 9_000_000_000, 55, comm="a name) of", forked_from=4242, proc=proc, users=users)
    parent = describe(4242, proc=proc, users=users)
    assert found == replace(parent, pid=4300, started_ns=9_000_000_000, time_ns=55, parent_pid=4242)
    assert found.executable == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("comm", "started_ns", "forked_from"),
    [("other", 9_000_000_000, 4242), ("a name) of", 6_000_000_000, 4242), ("x", 9, 7)],
)
def test_an_orphan_is_not_taken_for_a_child_of_who_adopted_it(
    comm: str, started_ns: int, forked_from: int, proc: Path, users: Users
) -> None:
    """By another name, or older than its parent; or the parent is gone too."""
    found = describe(4300, started_ns, 55, comm=comm, forked_from=forked_from, proc=proc, users=users)
    assert found == Identity(pid=4300, started_ns=started_ns, time_ns=55, comm=comm)


def test_the_cgroup_of_a_process_that_has_ended_tells_its_container(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the container runs."""
    monkeypatch.setattr(processes, "cgroup_path", {77: f"/system.slice/docker-{ID}.scope"}.get)
    assert describe(4300, 1, 2, comm="x", cgroup=77, proc=proc).container_id == ID


def make(proc: Path, files: dict[str, str], *, executable: str = "", pid: int = 4242) -> None:
    """A process's folder."""
    (proc / str(pid)).mkdir(parents=True)
    for name, content in files.items():
        (proc / str(pid) / name).write_text(content)
    if executable:
        (proc / str(pid) / "exe").symlink_to(executable)


def test_everything_that_is_told(proc: Path, users: Users) -> None:
    """Every field; secrets redacted, of the environment only the two variables."""
    assert describe(4242, 0, 55, proc=proc, users=users) == Identity(
        pid=4242,
        started_ns=7_000_000_000,
        time_ns=55,
        comm="a name) of",
        executable="/usr/bin/python3.11",
        command=COMMAND,
        parent_pid=17,
        owner="www-data",
        container_id="",
        systemd_unit="web",
        environment={"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c=d%20e"},
        runtime_name="cpython",
    )


def test_the_very_process_that_was_asked_for(proc: Path, users: Users) -> None:
    """The kernel's start time is finer than /proc's; another process of that number is not described."""
    assert describe(4242, 7_009_999_999, proc=proc, users=users).executable == "/usr/bin/python3.11"
    assert describe(4242, 7_009_999_999, proc=proc, users=users).started_ns == 7_009_999_999
    assert describe(4242, 6_000_000_000, 55, comm="gone", proc=proc, users=users) == Identity(
        pid=4242, started_ns=6_000_000_000, time_ns=55, comm="gone"
    )


def test_a_process_that_is_gone(proc: Path) -> None:
    """What was given is kept."""
    assert describe(1, 2, 3, comm="late", proc=proc) == Identity(pid=1, started_ns=2, time_ns=3, comm="late")


@pytest.mark.parametrize(
    "missing", [names for count in (1, 2, 5) for names in itertools.combinations(sorted(FILES), count)]
)
def test_files_that_cannot_be_read(tmp_path: Path, users: Users, missing: tuple[str, ...]) -> None:
    """A process that ends midway, or forbids: the fields of the files that are missing are empty, the others told."""
    proc = tmp_path / "proc"
    make(proc, {name: text for name, text in FILES.items() if name not in missing}, executable="/usr/bin/python3.11")

    identity = describe(4242, 0, 55, comm="given", proc=proc, users=users)

    assert identity.comm == ("given" if "stat" in missing else "a name) of")
    assert identity.started_ns == (0 if "stat" in missing else 7_000_000_000)
    assert identity.parent_pid == (0 if "stat" in missing else 17)
    assert identity.command == (() if "cmdline" in missing else COMMAND)
    assert identity.systemd_unit == ("" if "cgroup" in missing else "web")
    assert identity.owner == ("" if "status" in missing else "www-data")
    assert len(identity.environment) == (0 if "environ" in missing else 2)
    assert identity.executable == "/usr/bin/python3.11"


def test_a_kernel_thread(tmp_path: Path) -> None:
    """No executable, no arguments, no environment."""
    make(tmp_path, {"stat": STAT, "cmdline": "", "cgroup": "0::/\n", "environ": ""})
    identity = describe(4242, proc=tmp_path)

    assert (identity.executable, identity.command, identity.environment) == ("", (), {})


@pytest.mark.parametrize("stat", ["", "4242", "4242 (x", "4242 (x) S 1", ") (", "4242 (x) " + "S " * 19])
def test_a_stat_that_is_cut(tmp_path: Path, stat: str) -> None:
    """Not half believed."""
    make(tmp_path, FILES | {"stat": stat}, executable="/bin/x")
    identity = describe(4242, 5, comm="given", proc=tmp_path)

    assert (identity.started_ns, identity.parent_pid, identity.comm) == (5, 0, "given")
    assert identity.executable == "/bin/x"


def test_an_executable_that_was_replaced(tmp_path: Path) -> None:
    """The mark of the kernel is not part of its name."""
    make(tmp_path, FILES, executable="/usr/sbin/nginx (deleted)")

    assert describe(4242, proc=tmp_path).executable == "/usr/sbin/nginx"


def test_a_containers_users_are_its_own(tmp_path: Path, users: Users) -> None:
    """The host's name for the number would be wrong."""
    make(tmp_path / "proc", FILES | {"cgroup": f"0::/system.slice/docker-{ID}.scope\n"})
    identity = describe(4242, proc=tmp_path / "proc", users=users)

    assert (identity.container_id, identity.systemd_unit, identity.owner) == (ID, "", "33")


def test_users_are_read_again_when_they_change(tmp_path: Path, users: Users) -> None:
    """A user made later has a name; one without a name, or without the file, is a number."""
    assert [users.name(0), users.name(33), users.name(1000)] == ["root", "www-data", "1000"]
    (tmp_path / "new").write_text("ann:x:1000:\n")
    (tmp_path / "new").rename(tmp_path / "passwd")
    assert [users.name(0), users.name(1000)] == ["0", "ann"]
    (tmp_path / "passwd").unlink()
    assert users.name(1000) == "1000"


@pytest.mark.parametrize(
    ("executable", "runtime"),
    [
        ("/usr/bin/python3.11", "cpython"),
        ("/opt/python3.13t", "cpython"),
        ("/usr/bin/node", "nodejs"),
        ("/usr/bin/ruby3.1", "ruby"),
        ("/usr/sbin/php-fpm8.2", "php"),
        ("/usr/bin/perl5.36.0", "perl"),
        ("/usr/share/dotnet/dotnet", ".NET"),
        ("/usr/sbin/nginx", ""),
        ("/usr/bin/python3-config", ""),
        ("/srv/nodes", ""),
    ],
)
def test_runtimes(tmp_path: Path, executable: str, runtime: str) -> None:
    """Told by the executable's name, version left out."""
    make(tmp_path, FILES, executable=executable)

    assert describe(4242, proc=tmp_path).runtime_name == runtime


def test_a_go_program_is_told_by_its_linkers_note(tmp_path: Path) -> None:
    """In the first page of the executable."""
    note = b"\x04\0\0\0\x53\0\0\0\x04\0\0\0Go\0\0"
    (tmp_path / "server").write_bytes(bytes(3000) + note)
    (tmp_path / "other").write_bytes(bytes(5000) + note)
    make(tmp_path, FILES, executable=str(tmp_path / "server"))
    make(tmp_path, FILES, executable=str(tmp_path / "other"), pid=4243)

    assert describe(4242, proc=tmp_path).runtime_name == "go"
    assert describe(4243, proc=tmp_path).runtime_name == ""


def test_endless_files_are_cut(tmp_path: Path) -> None:
    """A process may have megabytes of arguments and environment."""
    make(
        tmp_path, FILES | {"cmdline": "x\0" * 1_000_000, "environ": "X=" + "y" * (1 << 18) + "\0OTEL_SERVICE_NAME=far"}
    )
    make(tmp_path, FILES | {"environ": "OTEL_SERVICE_NAME=" + "n" * 10_000}, pid=4243)

    assert describe(4242, proc=tmp_path).environment == {}
    assert describe(4242, proc=tmp_path).command == ("x",) * 128
    assert describe(4243, proc=tmp_path).environment == {"OTEL_SERVICE_NAME": "n" * 4096}


@pytest.mark.parametrize("how", ["spawn import spawn_main", "forkserver import main"])
def test_a_spawned_worker_runs_its_parents_program(tmp_path: Path, how: str) -> None:
    """Its own command line tells only how it was made; without the parent it is all there is."""
    worker = f"python3\0-c\0from multiprocessing.{how}; x()\0--multiprocessing-fork\0"
    make(tmp_path, FILES | {"cmdline": worker}, pid=30)
    make(tmp_path, {"stat": "17 (python3) " + STAT.partition(") ")[2].partition(") ")[2], "cmdline": worker}, pid=17)
    assert describe(30, proc=tmp_path).command[2].startswith("from multiprocessing.")

    (tmp_path / "17" / "stat").write_text("17 (python3) S 16" + " 0" * 40)
    make(tmp_path, {"cmdline": "python3\0/usr/bin/uvicorn\0app:app\0"}, pid=16)
    assert describe(30, proc=tmp_path).command == ("python3", "/usr/bin/uvicorn", "app:app")


def test_a_program_that_gave_itself_a_title(tmp_path: Path) -> None:
    """NULs that fill the rest are not arguments."""
    make(tmp_path, FILES | {"cmdline": "nginx: worker process\0\0\0\0"})

    assert describe(4242, proc=tmp_path).command == ("nginx: worker process",)


def test_this_very_process() -> None:
    """The real /proc: a child of ours, started with a variable and a secret."""
    code = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--password", "hunter2"],
        env={"OTEL_SERVICE_NAME": "child"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        identity = describe(child.pid)
        assert describe(child.pid, identity.started_ns + 3_000_000) == Identity(
            **{field: getattr(identity, field) for field in Identity.__struct_fields__}
            | {"started_ns": identity.started_ns + 3_000_000}
        )
        child.communicate()

    assert identity.executable == os.path.realpath(sys.executable)
    assert identity.command == (sys.executable, "-c", code, "--password", "REDACTED")
    assert identity.parent_pid == os.getpid()
    assert identity.environment == {"OTEL_SERVICE_NAME": "child"}
    assert identity.runtime_name == "cpython"
    assert describe(child.pid, 1).executable == ""


# -- the host ----------------------------------------------------------------------------------------------------------


def test_a_process_that_ends_while_it_is_read(proc: Path, users: Users) -> None:
    """Its executable was still there, its arguments no more."""
    make(proc, ZOMBIE, executable="/usr/bin/python3.11", pid=4300)
    found = describe(4300, 9_000_000_000, comm="a name) of", forked_from=4242, proc=proc, users=users)
    assert found.command == COMMAND
