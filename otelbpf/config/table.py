"""The settings as a flat table, read from the structs: one row a setting, with everything needed to read, check,
print and explain it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from otelbpf.config.forms import Form
from otelbpf.config.settings import Settings
from otelbpf.config.source import Source


class Row(msgspec.Struct, frozen=True):
    """One setting."""

    key: str
    section: str
    name: str
    default: Any
    description: str
    source: Source
    bounds: msgspec.Meta
    """Of the value, or of one item of a list."""
    most: int | None
    """The greatest number of items of a list."""

    @property
    def variable(self) -> str:
        """The project's own environment variable."""
        return "OTELBPF_" + self.key.upper().replace(".", "_")

    @property
    def form(self) -> Form:
        return self.source.form

    @property
    def expected(self) -> str:
        """What a value must be, in words, bounds included."""
        return self._in_words(self.form)

    @property
    def item_expected(self) -> str:
        """What one item of a list must be."""
        return self._in_words(self.form.item or self.form)

    def show(self, value: Any) -> str:
        """The value as a user would write it."""
        return self.form.show(value)

    def read(self, text: str, *, form: Form | None = None) -> Any:
        """The value of a text; raises ValueError with one sentence that names the text and what is expected."""
        form = form or self.form
        told = "the value (not shown)" if self.source.secret else _quote(text)
        try:
            value = form.read(text.strip())
        except ValueError:
            raise ValueError(f"{told} is not {self._in_words(form)}") from None
        items = value if form.item else (value,)
        if not form.pairs and not all(map(self._within, items)):
            raise ValueError(f"{told} is not {self._in_words(form)}")
        return self.count(value)

    def read_item(self, text: str) -> Any:
        """One item of a list."""
        assert self.form.item is not None
        try:
            value = self.form.item.read(text.strip())
        except ValueError:
            raise ValueError(f"{_quote(text)} is not {self.item_expected}") from None
        if not self._within(value):
            raise ValueError(f"{_quote(text)} is not {self.item_expected}")
        return value

    def count(self, value: Any) -> Any:
        """The same value, if it has no more items than allowed."""
        if self.most is not None and len(value) > self.most:
            raise ValueError(f"{len(value)} items are too many; at most {self.most}")
        return value

    def _in_words(self, form: Form) -> str:
        one = form.item or form
        low, high = self.bounds.ge, self.bounds.le
        words = one.expected
        if low is not None and high is not None:
            words += f" ({one.show(low)} to {one.show(high)})"
        if form.auto:
            words += ", or auto"
        return f"{words}, or several separated by commas" if form.item else words

    def _within(self, value: Any) -> bool:
        if value is None and self.form.auto:
            return True
        low, high = self.bounds.ge, self.bounds.le
        return (low is None or value >= low) and (high is None or value <= high)


def _quote(text: str) -> str:
    short = text if len(text) <= 80 else text[:77] + "..."
    return '"' + short.encode("unicode_escape").decode("ascii") + '"' if not short.isprintable() else f'"{short}"'


def _parts(hint: Any) -> tuple[Any, list[Any]]:
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        return base, extras
    return hint, []


def _row(section: str, name: str, default: Any, hint: Any) -> Row:
    base, extras = _parts(hint)
    meta = next(extra for extra in extras if isinstance(extra, msgspec.Meta))
    source = next(extra for extra in extras if isinstance(extra, Source))
    bounds = meta
    if source.form.item:
        bounds = next((extra for extra in _parts(get_args(base)[0])[1]), msgspec.Meta())
    return Row(
        key=f"{section}.{name}",
        section=section,
        name=name,
        default=default,
        description=meta.description or "",
        source=source,
        bounds=bounds,
        most=meta.max_length,
    )


def _rows() -> Iterable[Row]:
    for section, defaults in _sections():
        hints = get_type_hints(type(defaults), include_extras=True)
        for name, hint in hints.items():
            yield _row(section, name, getattr(defaults, name), hint)


def _sections() -> Iterable[tuple[str, msgspec.Struct]]:
    defaults = Settings()
    for name in Settings.__struct_fields__:
        yield name, getattr(defaults, name)


@cache
def table() -> dict[str, Row]:
    """Every setting by its key, in the order of the structs."""
    return {row.key: row for row in _rows()}


def build(values: dict[str, Any]) -> Settings:
    """The settings with these values by key, defaults for the others; each value as `Row.read` gives it."""
    sections: dict[str, Any] = {}
    for section, defaults in _sections():
        given = {row.name: values[row.key] for row in table().values() if row.section == section and row.key in values}
        sections[section] = msgspec.structs.replace(defaults, **given)
    return msgspec.structs.replace(Settings(), **sections)
