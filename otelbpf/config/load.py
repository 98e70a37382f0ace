"""Brings the sources of settings together: default < file < environment < flags, each value with its origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from otelbpf.config.checks import check_together
from otelbpf.config.document import nearest, read_file
from otelbpf.config.settings import Settings
from otelbpf.config.table import Row, build, table
from otelbpf.errors import ConfigError

FILE_VARIABLE = "OTELBPF_CONFIG"
"""Names the configuration file where --config does not."""


class Loaded(msgspec.Struct, frozen=True):
    """The settings, and where each value comes from."""

    settings: Settings
    origins: dict[str, str]
    """By key: 'default', 'file PATH:LINE', 'environment NAME' or 'flag --NAME'."""


def load(*, file: str | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Loaded:
    """The settings in force. `flags` holds values by key, as `Row.read` gives them; raises ConfigError, one line for
    each problem."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(table(), "default")
    path = file or environment.get(FILE_VARIABLE)
    if path:
        for key, given in read_file(path).items():
            values[key] = given.value
            origins[key] = f"file {path}:{given.line}"
    for key, (value, variable) in _from_environment(environment).items():
        values[key] = value
        origins[key] = f"environment {variable}"
    for key, value in flags.items():
        values[key] = value
        origins[key] = f"flag {table()[key].source.flag}"
    settings = build(values)
    check_together(settings, origins)
    return Loaded(settings, origins)


def standard_environment(loaded: Loaded, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the OTLP settings in force are what the standard variables say, wherever they come
    from: the exporters read nothing else."""
    result = dict(environment)
    for row in table().values():
        origin = loaded.origins[row.key]
        if row.section != "otlp" or origin == "default" or origin.removeprefix("environment ") in row.source.variables:
            continue
        value = getattr(loaded.settings.otlp, row.name)
        for name in row.source.variables:
            result.pop(name, None)
        if row.form.pairs:
            text = ",".join(f"{quote(name)}={quote(text)}" for name, text in value.items())
        else:
            text = (row.source.variable_form or row.form).show(value)
        if text != "auto":
            result[row.source.variables[-1]] = text
    return result


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    problems = _unknown_variables(environment)
    found: dict[str, tuple[Any, str]] = {}
    for row in table().values():
        try:
            given = _variable(row, environment)
        except ValueError as error:
            problems.append(str(error))
            continue
        if given is not None:
            found[row.key] = given
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _variable(row: Row, environment: Mapping[str, str]) -> tuple[Any, str] | None:
    """A variable set to nothing counts as not set (opentelemetry-specification, sdk-environment-variables.md)."""
    standard = ((name, row.source.variable_form or row.form) for name in row.source.variables)
    for name, form in ((row.variable, row.form), *standard):
        text = environment.get(name, "").strip()
        if text:
            try:
                return row.read(text, form=form), name
            except ValueError as error:
                raise ValueError(f"environment {name}: {error}") from None
    if row.key == "health.listen":
        return _prometheus_address(row, environment)
    return None


def _prometheus_address(row: Row, environment: Mapping[str, str]) -> tuple[Any, str] | None:
    """OpenTelemetry names two variables for this address, defaults localhost and 9464."""
    host = environment.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip()
    port = environment.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip()
    if not host and not port:
        return None
    names = " and ".join(
        name
        for name, text in (("OTEL_EXPORTER_PROMETHEUS_HOST", host), ("OTEL_EXPORTER_PROMETHEUS_PORT", port))
        if text
    )
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    try:
        return row.read(f"{bracketed or 'localhost'}:{port or 9464}"), names
    except ValueError as error:
        raise ValueError(f"environment {names}: {error}") from None


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = [FILE_VARIABLE, *(row.variable for row in table().values())]
    short = {f"OTELBPF_{row.name.upper()}": row.variable for row in table().values()}
    return [
        f"environment {name}: unknown; {nearest(name, known, short=short)}"
        for name in sorted(environment)
        if name.startswith("OTELBPF_") and name not in known
    ]
