"""The configuration file: YAML read with positions, so that every complaint names line and column.

Scalars are taken as the text that stands in the file and read by the setting's own form, so YAML 1.1's readings
(`off` as a boolean, 1:30 as ninety) never happen. Every problem is collected; a user mends them all at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from otelbpf.config.table import Row, table
from otelbpf.errors import ConfigError

_MAX_BYTES = 1 << 20


class Given(msgspec.Struct, frozen=True):
    """A value the file gives, and where it stands."""

    value: Any
    line: int


def read_file(path: str) -> dict[str, Given]:
    """The file's settings by key; raises ConfigError with one line for each problem."""
    return _Reader(path).read(_text(path))


def nearest(word: str, known: Collection[str], *, short: Mapping[str, str] | None = None) -> str:
    """'did you mean …?' for a word close to a known one, or to its `short` form; otherwise the known ones."""
    full = {**(short or {}), **{name: name for name in known}}
    close = difflib.get_close_matches(word, full, n=1, cutoff=0.6)
    return f"did you mean {full[close[0]]}?" if close else "known: " + ", ".join(known)


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "give an existing file with --config") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes", "is this a configuration file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path}:{line}:{column}: not UTF-8 text") from None


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[str] = []

    def read(self, text: str) -> dict[str, Given]:
        root = self._compose(text)
        given: dict[str, Given] = {}
        sections = {row.section for row in table().values()}
        for name, key_node, node in self._entries(root, "", sorted(sections)):
            if name not in sections:
                self._unknown(key_node, name, sorted(sections), hint=_section_of(name))
                continue
            rows = {row.name: row for row in table().values() if row.section == name}
            for setting, setting_node, value_node in self._entries(node, name, rows):
                if setting not in rows:
                    self._unknown(setting_node, f"{name}.{setting}", [row.key for row in rows.values()])
                    continue
                self._take(given, rows[setting], value_node)
        if self._problems:
            raise ConfigError("\n".join(self._problems))
        return given

    def _compose(self, text: str) -> Node | None:
        # The pure Python loader: libyaml's recursion ends deep nesting in a crash, this one's in an exception.
        try:
            root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise ConfigError(f"{self._path}{place}: not YAML: {error.problem or error.context}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(f"{self._path}:{line}: not YAML: {error.reason}") from None
        except RecursionError:
            raise ConfigError(f"{self._path}: nested too deeply") from None
        return root

    def _entries(self, node: Node | None, key: str, known: Iterable[str]) -> Iterable[tuple[str, Node, Node]]:
        """The entries of a mapping, each name once; an empty one has none."""
        if node is None or _is_null(node):
            return
        if not isinstance(node, MappingNode):
            where = f"{key} is a section" if key else "the file is a mapping of sections"
            self._problem(node, f"{where}: a mapping of {', '.join(known)}")
            return
        seen: dict[str, int] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, ScalarNode):
                self._problem(name_node, "a key must be a word")
                continue
            name = name_node.value
            full = f"{key}.{name}" if key else name
            if name in seen:
                self._problem(name_node, f"{full} is given twice; first in line {seen[name]}")
                continue
            seen[name] = name_node.start_mark.line + 1
            yield name, name_node, value_node

    def _take(self, given: dict[str, Given], row: Row, node: Node) -> None:
        before = len(self._problems)
        value: Any
        if row.form.pairs:
            value = self._pairs(row, node)
        elif row.form.item:
            value = self._items(row, node)
        else:
            value = self._scalar(row, node)
        if len(self._problems) == before:
            given[row.key] = Given(value, node.start_mark.line + 1)

    def _pairs(self, row: Row, node: Node) -> dict[str, str] | None:
        if not isinstance(node, MappingNode):
            self._problem(node, f"{row.key} is a mapping of names to texts; write {{name: text}}")
            return None
        pairs = {}
        for name, _, value in self._entries(node, row.key, ()):
            if not isinstance(value, ScalarNode) or _is_null(value):
                self._problem(value, f"{row.key}.{name} must be a text")
                continue
            pairs[name] = value.value
        return pairs if self._counted(row, node, pairs) else None

    def _items(self, row: Row, node: Node) -> tuple[Any, ...] | None:
        if not isinstance(node, SequenceNode):
            example = node.value if isinstance(node, ScalarNode) and not _is_null(node) else ""
            self._problem(node, f"{row.key} is a list; write [{example}]")
            return None
        items = []
        for item in node.value:
            if not isinstance(item, ScalarNode):
                self._problem(item, f"{row.key}: each item must be {row.item_expected}")
                continue
            try:
                items.append(row.read_item(item.value))
            except ValueError as error:
                self._problem(item, f"{row.key}: {error}")
        return tuple(items) if self._counted(row, node, items) else None

    def _scalar(self, row: Row, node: Node) -> Any:
        if not isinstance(node, ScalarNode) or _is_null(node):
            missing = "has no value; leave the line out for the default" if _is_null(node) else "must be one value"
            self._problem(node, f"{row.key} {missing}: {row.expected}")
            return None
        try:
            return row.read(node.value)
        except ValueError as error:
            self._problem(node, f"{row.key}: {error}")
            return None

    def _counted(self, row: Row, node: Node, value: Sized) -> bool:
        try:
            row.count(value)
        except ValueError as error:
            self._problem(node, f"{row.key}: {error}")
            return False
        return True

    def _unknown(self, node: Node, name: str, known: list[str], hint: str = "") -> None:
        self._problem(node, f"unknown key {name}; {hint or nearest(name, known)}")

    def _problem(self, node: Node, text: str) -> None:
        mark = node.start_mark
        self._problems.append(f"{self._path}:{mark.line + 1}:{mark.column + 1}: {text}")


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _section_of(name: str) -> str:
    """A setting written without its section is the likeliest mistake; so is its whole key on one line."""
    for row in table().values():
        if name in (row.name, row.key):
            return f"write it as {row.name} under {row.section}:"
    return ""
