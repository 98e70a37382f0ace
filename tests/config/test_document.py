"""The configuration file: what it gives, and how exactly it complains."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.config.document import read_file
from otelbpf.config.table import build, table
from otelbpf.errors import ConfigError

_YAML_SIGNS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a",
    b"*a",
    b"!!int",
    b"!!set",
    b": ",
    b"- ",
    b"? ",
    b"|\n",
    b"<<: ",
    b"---\n",
    b"'",
    b'"',
]
SHIPPED = Path(__file__).parents[2] / "config" / "otelbpf.yaml"


def _write(folder: Path, text: str) -> str:
    path = folder / "c.yaml"
    path.write_text(text)
    return str(path)


def _problems(folder: Path, text: str) -> list[str]:
    path = _write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    return str(caught.value).replace(path, "c.yaml").splitlines()


def test_the_shipped_file_gives_every_setting_at_its_default() -> None:
    given = read_file(str(SHIPPED))

    assert {key: one.value for key, one in given.items()} == {key: row.default for key, row in table().items()}
    assert build({key: one.value for key, one in given.items()}) == build({})


def test_the_shipped_file_names_every_flag_and_standard_variable() -> None:
    text = SHIPPED.read_text()
    rows = [row for row in table().values() if row.section != "otlp"]
    names = [row.source.flag for row in rows] + [name for row in rows for name in row.source.variables]

    assert [name for name in names if name not in text] == []


def test_values_carry_their_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, "filters:\n  ports: [80, 443]\ncapture:\n  ring_bytes: 16MiB\n")

    given = read_file(path)

    assert {key: (one.value, one.line) for key, one in given.items()} == {
        "filters.ports": ((80, 443), 2),
        "capture.ring_bytes": (16 << 20, 4),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "filters:\n", "---\n", "filters: {}\n", "\ufeff"])
def test_nothing_given_is_nothing_set(tmp_path: Path, text: str) -> None:
    assert read_file(_write(tmp_path, text)) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("health: {listen: off}", "off"),
        ("health: {listen: '[::1]:9000'}", "[::1]:9000"),
        ("privileges: {drop: no}", False),
        ("privileges: {drop: on}", True),
        ("capture: {duration_seconds: 1m30s}", 90.0),
        ("capture: {duration_seconds: 250ms}", 0.25),
        ("capture: {tier: KProbe}", "kprobe"),
        ("sampling: {ratio: .25}", 0.25),
        ("filters: {pids: [1, 2]}", (1, 2)),
        ("filters: {executables: ['*/a,b']}", ("*/a,b",)),
        ("redaction: {request_headers: [X-Request-Id]}", ("x-request-id",)),
        ("resource: {attributes: {a.b: 'c, d', n: 1}}", {"a.b": "c, d", "n": "1"}),
    ],
)
def test_each_form_of_value(tmp_path: Path, text: str, value: object) -> None:
    assert [one.value for one in read_file(_write(tmp_path, text)).values()] == [value]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("filter:\n  ports: [1]\n", "c.yaml:1:1: unknown key filter; did you mean filters?"),
        ("filters:\n  prots: [1]\n", "c.yaml:2:3: unknown key filters.prots; did you mean filters.ports?"),
        ("ring_bytes: 1\n", "c.yaml:1:1: unknown key ring_bytes; write it as ring_bytes under capture:"),
        ("capture.tier: auto\n", "c.yaml:1:1: unknown key capture.tier; write it as tier under capture:"),
        (
            "log:\n  zzz: 1\n",
            "c.yaml:2:3: unknown key log.zzz; known: log.level",
        ),
        (
            "filters:\n  ports: [80, 99999]\n",
            'c.yaml:2:15: filters.ports: "99999" is not a whole number (1 to 65535)',
        ),
        ("filters:\n  ports: 80\n", "c.yaml:2:10: filters.ports is a list; write [80]"),
        ("filters:\n  ports:\n", "c.yaml:2:9: filters.ports is a list; write []"),
        (
            "filters:\n  ports: [[80]]\n",
            "c.yaml:2:11: filters.ports: each item must be a whole number (1 to 65535)",
        ),
        ("log:\n  level: loud\n", 'c.yaml:2:10: log.level: "loud" is not one of debug, info, warn, error'),
        (
            "log:\n  level:\n",
            "c.yaml:2:9: log.level has no value; leave the line out for the default: one of debug, info, warn, error",
        ),
        ("log:\n  level: [info]\n", "c.yaml:2:10: log.level must be one value: one of debug, info, warn, error"),
        ("log: info\n", "c.yaml:1:6: log is a section: a mapping of level"),
        ("- log\n", "c.yaml:1:1: the file is a mapping of sections: a mapping of "),
        ("log:\n  level: info\n  level: warn\n", "c.yaml:3:3: log.level is given twice; first in line 2"),
        ("log: {}\nlog: {}\n", "c.yaml:2:1: log is given twice; first in line 1"),
        ("? [a]\n: 1\n", "c.yaml:1:3: a key must be a word"),
        ("resource:\n  attributes: [a]\n", "c.yaml:2:15: resource.attributes is a mapping of names to texts"),
        ("resource:\n  attributes: {a: [1]}\n", "c.yaml:2:19: resource.attributes.a must be a text"),
        ("resource:\n  attributes: {a: 1, a: 2}\n", "c.yaml:2:22: resource.attributes.a is given twice"),
        ("capture:\n\ttier: auto\n", "c.yaml:2:1: not YAML: found character '\\t' that cannot start any token"),
        ("capture: {tier: auto\n", "c.yaml:2:1: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("capture: *x\n", "c.yaml:1:10: not YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2:1: not YAML: but found another document"),
        ("log: \x07\n", "c.yaml:1: not YAML: special characters are not allowed"),
        ("[" * 5000, "c.yaml: nested too deeply"),
        (
            "filters:\n  pids: [" + "1," * 1025 + "]\n",
            "c.yaml:2:9: filters.pids: 1025 items are too many; at most 1024",
        ),
    ],
)
def test_each_problem_is_one_line_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    (line,) = _problems(tmp_path, text)

    assert line.startswith(problem)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = "filters:\n  prots: []\n  pids: [0]\nlogs: {}\ncapture:\n  tier: x\n"

    assert [line.partition(": ")[0] for line in _problems(tmp_path, text)] == [
        "c.yaml:2:3",
        "c.yaml:3:10",
        "c.yaml:4:1",
        "c.yaml:6:9",
    ]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            read_file(str(path))
        assert str(caught.value) == f"{path}: {why}; give an existing file with --config"


def test_bytes_that_are_no_text_are_placed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"log:\n  level: \xff\n")

    with pytest.raises(ConfigError, match=r"c\.yaml:2:10: not UTF-8 text"):
        read_file(str(path))


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: larger than 1048576 bytes"):
        read_file("/dev/zero")


@settings(deadline=None)
@given(st.data())
def test_a_mangled_file_is_read_or_refused_in_lines_and_never_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = SHIPPED.read_bytes()
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 40)))
        text = text[:begin] + data.draw(st.binary(max_size=8) | st.sampled_from(_YAML_SIGNS)) + text[end:]
    path = tmp_path_factory.getbasetemp() / "mangled.yaml"
    path.write_bytes(text)

    problems = []
    try:
        read_file(str(path))
    except ConfigError as error:
        problems = str(error).splitlines()

    assert all(line.startswith(f"{path}:") for line in problems)
