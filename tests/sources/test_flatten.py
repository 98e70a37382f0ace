"""One text of many files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otelbpf.errors import DependencyError
from otelbpf.sources.attach import probes_folder
from otelbpf.sources.flatten import flatten


def test_each_file_is_expanded_once_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text('#include <system.h>\n#include "sub/a.h"\nmain\n#include "b.h"\nend\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.h").write_text('#pragma once\n  #  include "../b.h"\na\n')
    (tmp_path / "b.h").write_text("#pragma once\nb\n")

    assert flatten(tmp_path / "main.c").splitlines() == [
        '#line 1 "main.c"',
        "#include <system.h>",
        '#line 1 "a.h"',
        "",
        '#line 1 "b.h"',
        "",
        "b",
        '#line 3 "a.h"',
        "a",
        '#line 3 "main.c"',
        "main",
        '#line 5 "main.c"',
        "end",
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text('#include "gone.h"\n')

    with pytest.raises(DependencyError, match=r"gone\.h: No such file"):
        flatten(tmp_path / "main.c")


def test_the_probes_are_one_text_without_kernel_headers() -> None:
    text = flatten(probes_folder() / "main.c")

    assert set(re.findall(r"^#include (.*)", text, re.MULTILINE)) == {
        "<asm/ptrace.h>",
        "<linux/types.h>",
        "<stdint.h>",  # for compilers outside BCC
    }
    assert text.count("struct socket_entry {") == text.count("struct state_record {") == 1
