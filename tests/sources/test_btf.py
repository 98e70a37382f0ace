"""Offsets out of type information that a compiler made of a structure we know."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbpf.errors import DependencyError, KernelError
from otelbpf.sources.btf import Btf
from otelbpf.sources.offsets import defines

SOURCE = """
typedef struct { void *net; } possible;
enum flavour { IOVEC = 4, UBUF = 9 };
struct inner { int before; union { int first; struct { short pad; short deep; }; }; };
struct outer {
	char one;
	const struct inner nested;
	unsigned low : 3, high : 8;
	possible wrapped;
	struct { long anonymous; };
} outer;
enum flavour flavour;
int called(int first, long flags, char *last) { return first; }
"""


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Btf]:
    if shutil.which("clang") is None:
        pytest.skip("needs clang: offsets were not compared with a compiler's")
    folder: Path = tmp_path_factory.mktemp("btf")
    (folder / "known.c").write_text(SOURCE)
    subprocess.run(["clang", "-target", "bpf", "-g", "-O1", "-c", "known.c", "-o", "known.o"], cwd=folder, check=True)
    try:
        opened = Btf(folder / "known.o")
    except DependencyError as error:
        pytest.skip(f"needs libbpf1: {error}")
    with opened:
        yield opened


@pytest.mark.parametrize(
    ("member", "offset"),
    [
        ("one", 0),
        ("nested", 4),
        ("nested.before", 4),
        ("nested.first", 8),
        ("nested.deep", 10),
        ("wrapped", 16),
        ("wrapped.net", 16),
        ("anonymous", 24),
    ],
)
def test_members_are_found_wherever_they_are(btf: Btf, member: str, offset: int) -> None:
    assert btf.offset("outer", member) == offset


@pytest.mark.parametrize("member", ["two", "nested.two", "one.more", "high", "anonymous.net"])
def test_what_is_not_there_or_not_at_a_byte_has_no_offset(btf: Btf, member: str) -> None:
    assert btf.offset("outer", member) is None


def test_unknown_structures_have_no_offsets(btf: Btf) -> None:
    assert btf.offset("other", "one") is None


def test_enumerators(btf: Btf) -> None:
    assert [btf.enumerator("flavour", name) for name in ("IOVEC", "UBUF", "KVEC")] == [4, 9, None]
    assert btf.enumerator("taste", "IOVEC") is None


def test_parameters(btf: Btf) -> None:
    assert btf.parameters("called") == ["first", "flags", "last"]
    assert btf.parameters("uncalled") is None


def test_a_kernel_the_probes_do_not_know_is_refused_by_the_missing_member(btf: Btf) -> None:
    with pytest.raises(KernelError, match=r"no sock_common\.skc_daddr; the probes do not know"):
        defines(btf, kprobes=False)


def test_no_type_information_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    try:
        with pytest.raises(KernelError, match=r"has no type information .*CONFIG_DEBUG_INFO_BTF"):
            Btf(tmp_path / "vmlinux")
    except DependencyError as error:
        pytest.skip(f"needs libbpf1: {error}")


def test_something_else_than_type_information_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"something else")

    try:
        with pytest.raises(KernelError, match="cannot be read as BTF"):
            Btf(tmp_path / "vmlinux")
    except DependencyError as error:
        pytest.skip(f"needs libbpf1: {error}")
