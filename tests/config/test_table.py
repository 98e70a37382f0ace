"""The table of settings: complete, explained, within its own bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbpf.config.table import Row, table
from otelbpf.config.telling import Conventions, Redaction
from otelbpf.tracing.conventions.http import METHODS
from otelbpf.tracing.redact import SECRET_KEYS
from otelbpf.tracing.sampling import NAMES

ROWS = list(table().values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_setting_is_one_sentence_with_a_default_that_its_own_form_reads_back(row: Row) -> None:
    assert row.description.endswith(".")
    assert "\n" not in row.description
    assert row.variable == "OTELBPF_" + row.key.replace(".", "_").upper()
    assert row.read(row.show(row.default)) == row.default if row.show(row.default) else not row.default


@pytest.mark.parametrize("row", [row for row in ROWS if row.bounds.le is not None], ids=lambda row: row.key)
def test_bounds_are_inclusive_and_kept(row: Row) -> None:
    form = row.form.item or row.form
    low, high = row.bounds.ge, row.bounds.le
    assert low is not None
    assert high is not None
    wrap = (lambda value: (value,)) if row.form.item else (lambda value: value)

    assert row.read(form.show(low)) == wrap(low)
    assert row.read(form.show(high)) == wrap(high)
    for beyond in (high * 2 + 1, low - 1):
        with pytest.raises(ValueError, match="is not "):
            row.read(form.show(beyond))


def test_numbers_have_both_bounds() -> None:
    numeric = [row for row in ROWS if isinstance(row.default, int | float) and not isinstance(row.default, bool)]

    assert [row.key for row in numeric if row.bounds.ge is None or row.bounds.le is None] == []


@settings(deadline=None)
@given(st.sampled_from(ROWS), st.text(max_size=40))
def test_any_text_is_a_value_or_one_line_that_says_what_is_expected(row: Row, text: str) -> None:
    problem = ""
    try:
        value = row.read(text)
    except ValueError as error:
        problem = str(error)
    if problem:
        assert problem.endswith(f" is not {row.expected}")
        assert problem.isprintable()
    elif not row.form.pairs and not row.form.item:
        assert row.read(row.show(value)) == value


def test_the_defaults_of_the_stages_are_the_defaults_here() -> None:
    assert Redaction().query_keys == SECRET_KEYS
    assert Conventions().known_methods == METHODS
    assert table()["sampling.sampler"].form.expected == "one of " + ", ".join(NAMES)
