"""Which files get probes, and when they let go: with a /proc made of files, and libraries made by a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from otelbpf.sources.elf import Program
from otelbpf.sources.symbols import Symbols
from otelbpf.sources.targets import CARRIERS, HOOKS, Targets

LIBRARY = "int SSL_read(void) { return 1; } int SSL_write(void) { return 2; } int SSL_new(void) { return 3; }"
PROGRAM = LIBRARY + " int main(void) { return SSL_read(); }"


def compiled(path: Path, text: str, *options: str) -> Path:
    """An ELF file; the symbols' places are as the linker wants them."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang: no library can be made to look into")
    subprocess.run([compiler, "-x", "c", "-", "-o", path, *options], input=text, text=True, check=True)
    return path


class Uprobes:
    """Remembers what was attached; descriptors are real ones, so that one left open is seen."""

    def __init__(self) -> None:
        self.attached: list[tuple[int, int, int, bool]] = []
        self.refuses = False
        self.held: list[bool] = []

    def hold(self, holding: bool) -> None:
        self.held.append(holding)
        self.attached_when_held = len(self.attached)

    def attach(self, program: int, file: int, offset: int, *, at_return: bool) -> int:
        if self.refuses:
            raise PermissionError(1, "Operation not permitted")
        self.attached.append((program, os.fstat(file).st_ino, offset, at_return))
        return os.open(os.devnull, os.O_RDONLY)


class Proc:
    """Processes that have files mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def start(self, pid: int, executable: Path, *libraries: Path, inode: int = 0, device: str = "08:01") -> None:
        place = self.folder / str(pid)
        (place / "root").mkdir(parents=True)
        (place / "exe").symlink_to(executable)
        lines = []
        for number, path in enumerate((executable, *libraries)):
            at = f"{0x400000 + number * 0x10000:08x}-{0x401000 + number * 0x10000:08x}"
            lines.append(f"{at} r-xp 00001000 {device} {inode or path.stat().st_ino} {path}\n")
            (place / "root" / path.relative_to("/").parent).mkdir(parents=True, exist_ok=True)
            (place / "root" / path.relative_to("/")).symlink_to(path)
        (place / "maps").write_text("".join(lines) + "7ffc0000-7ffd0000 r-xp 00000000 00:00 0 [vdso]\n")

    def grow(self, pid: int, pages: int) -> None:
        (self.folder / str(pid) / "statm").write_text(f"{pages} 700 350 4 0 200 0\n")

    def end(self, pid: int) -> None:
        shutil.rmtree(self.folder / str(pid))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return compiled(tmp_path / "plain", "int main(void) { return 0; }")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return compiled(tmp_path / "libssl.so.3", LIBRARY, "-shared", "-fPIC")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


def make(
    uprobes: Uprobes, proc: Proc, *usual: Path, tell: Callable[[str, int], None] = lambda _path, _pid: None
) -> Targets:
    names = {name for hook in HOOKS.values() for name in (hook.entry, hook.leaving) if name}
    programs = {name: number for number, name in enumerate(sorted(names))}
    paths = map(str, usual)
    return Targets(
        programs,
        uprobes.attach,
        os.close,
        symbols=Symbols(HOOKS.keys(), needed=CARRIERS),
        hold=uprobes.hold,
        tell=tell,
        proc=proc.folder,
        usual=paths,
    )


def test_a_library_is_attached_once_and_let_go_with_its_last_process(plain: Path, library: Path, proc: Proc) -> None:
    """Five probes: two functions with entry and return, one with a return only."""
    uprobes = Uprobes()
    proc.start(10, plain, library)
    proc.start(11, plain, library)
    targets = make(uprobes, proc)
    targets.look_at_all()

    offsets = {offset for _, inode, offset, _ in uprobes.attached if inode == library.stat().st_ino}
    assert len(uprobes.attached) == 5
    assert len(offsets) == 3
    assert [at_return for *_, at_return in uprobes.attached] == [True, True, False, False, True]
    assert (targets.attached, targets.readable(10), targets.readable(11)) == (1, True, True)
    proc.end(10)
    targets.tidy()
    assert targets.attached == 1
    proc.end(11)
    targets.tidy()
    assert targets.attached == 0


def test_each_library_that_has_probes_now_is_told_once(plain: Path, library: Path, proc: Proc, tmp_path: Path) -> None:
    """By the path its process has it under, after its last probe; the usual ones are not met in a process."""
    uprobes, told = Uprobes(), list[tuple[str, int, int]]()
    usual = compiled(tmp_path / "libssl.so.1.1", LIBRARY, "-shared", "-fPIC")
    proc.start(10, plain, library)
    proc.start(11, plain, library)
    targets = make(uprobes, proc, usual, tell=lambda path, pid: told.append((path, pid, len(uprobes.attached))))
    targets.look(10)
    targets.look_at_all()

    assert told == [(str(library), 10, 10)]


def test_one_inode_under_the_numbers_of_two_mounts(plain: Path, library: Path, proc: Proc) -> None:
    """Containers of one image: each overlay has a device of its own."""
    uprobes = Uprobes()
    proc.start(10, plain, library, device="00:28")
    proc.start(11, plain, library, device="00:29")
    targets = make(uprobes, proc)
    targets.look_at_all()

    assert (targets.attached, len(uprobes.attached)) == (1, 5)
    assert (targets.readable(10), targets.readable(11)) == (True, True)
    proc.end(10)
    targets.tidy()
    assert targets.attached == 1
    proc.end(11)
    targets.tidy()
    assert targets.attached == 0


def test_a_library_is_let_go_when_its_process_runs_another_program(plain: Path, library: Path, proc: Proc) -> None:
    """Its number lives on."""
    targets = make(Uprobes(), proc)
    proc.start(10, plain, library)
    assert targets.look(10)
    proc.end(10)
    proc.start(10, plain)
    assert not targets.look(10)
    targets.tidy()

    assert targets.attached == 0


def test_while_a_library_has_probes_in_part_it_is_said(plain: Path, library: Path, proc: Proc) -> None:
    """Before the first and behind the last of them; also where they are refused."""
    uprobes = Uprobes()
    proc.start(10, plain, library)
    targets = make(uprobes, proc)
    targets.look(10)
    assert uprobes.held == [True, False]
    assert uprobes.attached_when_held == 5
    targets.look(10)
    assert uprobes.held == [True, False]
    targets.close()
    uprobes.refuses = True
    targets.look(10)
    assert len(uprobes.held) % 2 == 0
    assert uprobes.held[-1] is False


def test_sessions_are_born_last(plain: Path, tmp_path: Path, proc: Proc) -> None:
    """Of a session whose begin is seen, every byte must be."""
    names = ("gnutls_init", "gnutls_record_recv", "gnutls_record_send", "gnutls_deinit")
    text = " ".join(f"int {name}(void) {{ return {number}; }}" for number, name in enumerate(names))
    library = compiled(tmp_path / "libgnutls.so.30", text, "-shared", "-fPIC")
    with open(library, "rb") as file:
        births = Program(file).offsets(["gnutls_init"])["gnutls_init"]
    uprobes = Uprobes()
    proc.start(10, plain, library)
    targets = make(uprobes, proc)
    targets.look(10)

    assert [offset == births for *_, offset, _ in uprobes.attached] == [False] * 5 + [True] * 2
    targets.close()


def test_a_program_that_carries_the_library_within_it(plain: Path, tmp_path: Path, proc: Proc) -> None:
    """With exported symbols (node), or only in its full table."""
    exporting = compiled(tmp_path / "node", PROGRAM, "-rdynamic")
    silent = compiled(tmp_path / "server", PROGRAM)
    stripped = compiled(tmp_path / "stripped", PROGRAM, "-s")
    for pid, path in ((10, exporting), (11, silent), (12, stripped), (13, plain)):
        proc.start(pid, path)
    targets = make(Uprobes(), proc)
    targets.look_at_all()

    assert [targets.readable(pid) for pid in (10, 11, 12, 13)] == [True, True, False, False]
    targets.close()


def test_a_library_loaded_later_is_found_when_looked_for_again(plain: Path, library: Path, proc: Proc) -> None:
    """dlopen."""
    uprobes = Uprobes()
    proc.start(10, plain)
    targets = make(uprobes, proc)
    assert targets.look(10) is False
    proc.end(10)
    proc.start(10, plain, library)
    targets.look_again()

    assert targets.readable(10)
    assert len(uprobes.attached) == 5
    targets.close()


def test_a_library_loaded_beside_another_is_found(plain: Path, library: Path, proc: Proc, tmp_path: Path) -> None:
    """Once the process has more mapped than before; otherwise its map is not read again."""
    uprobes = Uprobes()
    further = compiled(tmp_path / "libgnutls.so.30", LIBRARY, "-shared", "-fPIC")
    proc.start(10, plain, library)
    proc.grow(10, 1000)
    targets = make(uprobes, proc)
    assert targets.look(10)
    targets.look_again()
    proc.end(10)
    proc.start(10, plain, library, further)
    proc.grow(10, 1000)
    targets.look_again()
    assert targets.attached == 1
    proc.grow(10, 1010)
    targets.look_again()

    assert (targets.attached, len(uprobes.attached)) == (2, 10)
    assert targets.readable(10)
    proc.end(10)
    targets.tidy()
    assert targets.attached == 0


def test_another_file_in_the_place_of_a_mapped_one_is_not_taken_for_it(plain: Path, library: Path, proc: Proc) -> None:
    """A library replaced on disk: its offsets are not those at work."""
    uprobes = Uprobes()
    proc.start(10, plain, library, inode=1)
    targets = make(uprobes, proc)

    assert targets.look(10) is False
    assert uprobes.attached == []


def test_usual_files_are_attached_before_anybody_maps_them_and_stay(library: Path, proc: Proc) -> None:
    """A process that starts later loses nothing; a name for the same file adds nothing."""
    uprobes = Uprobes()
    (library.parent / "libssl.so").symlink_to(library)
    targets = make(uprobes, proc, library, library.parent / "libssl.so", library.parent / "missing")
    targets.tidy()

    assert (targets.attached, len(uprobes.attached)) == (1, 5)
    targets.close()
    assert targets.attached == 0


def test_a_refusal_is_told_and_leaves_nothing(plain: Path, library: Path, proc: Proc) -> None:
    """Without CAP_PERFMON."""
    uprobes = Uprobes()
    uprobes.refuses = True
    proc.start(10, plain, library)
    targets = make(uprobes, proc)

    assert targets.look(10) is False
    assert targets.failure.endswith("libssl.so.3: Operation not permitted")


def test_a_process_that_is_gone_has_nothing(proc: Proc) -> None:
    """Between any two reads."""
    targets = make(Uprobes(), proc)

    assert targets.look(10) is False
    assert not targets.readable(10)


def test_what_is_no_program_has_no_functions(tmp_path: Path) -> None:
    """Text, nothing, and a library cut short."""
    library = compiled(tmp_path / "libssl.so", LIBRARY, "-shared", "-fPIC")
    content = library.read_bytes()
    for size in (0, 3, 63, len(content) // 2, len(content) - 1500):
        library.write_bytes(content[:size])
        with open(library, "rb") as file:
            try:
                found = Program(file).offsets(["SSL_read"])
            except ValueError:
                found = {}
        assert set(found) <= {"SSL_read"}
    with open(__file__, "rb") as file, pytest.raises(ValueError, match="no ELF file"):
        Program(file)


def test_offsets_are_those_of_the_code(library: Path) -> None:
    """At that place of the file stands the code of the function."""
    with open(library, "rb") as file:
        program = Program(file)
        offsets = program.offsets(["SSL_read", "SSL_new", "SSL_free"])
        assert set(offsets) == {"SSL_read", "SSL_new"}
        file.seek(offsets["SSL_read"])
        code = file.read(32)
        assert len(program.build_id) in (0, 40)
    assert b"\xb8\x01\x00\x00\x00" in code  # mov $1, %eax
