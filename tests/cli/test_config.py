"""`otelbpf config`: every setting with its source, and files checked without being used."""

from __future__ import annotations

from pathlib import Path

from otelbpf.config.table import table
from tests.cli.command import ROOT, otelbpf


def _rows(output: str) -> dict[str, list[str]]:
    return {
        line.split()[0]: [part.strip() for part in line.split("  ")[1:] if part.strip()] for line in output.splitlines()
    }


def test_every_setting_is_printed_with_value_and_source(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("capture:\n  sockets: 2000\n")

    result = otelbpf("config", "--print", "--config", path, "--port", "80", OTEL_LOG_LEVEL="warn")

    rows = _rows(result.stdout)
    assert result.returncode == 0
    assert list(rows) == list(table())
    assert {key: row for key, row in rows.items() if row[1] != "default"} == {
        "filters.ports": ["80", "flag --port"],
        "capture.sockets": ["2000", f"file {path}:2"],
        "log.level": ["warn", "environment OTEL_LOG_LEVEL"],
        "privileges.drop": ["false", "environment OTELBPF_PRIVILEGES_DROP"],
    }


def test_secrets_are_not_printed() -> None:
    result = otelbpf(
        *("config", "--print"),
        OTEL_EXPORTER_OTLP_HEADERS="authorization=planted",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://me:planted@backend:4318",
    )

    rows = _rows(result.stdout)
    assert "planted" not in result.stdout
    assert rows["otlp.headers"] == ["(not shown)", "environment OTEL_EXPORTER_OTLP_HEADERS"]
    assert rows["otlp.endpoint"] == ["http://(not shown)@backend:4318", "environment OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_a_right_file_is_said_to_be_right() -> None:
    path = ROOT / "config" / "otelbpf.yaml"

    result = otelbpf("config", "--check", path)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{path}: {len(table())} settings, all right\n"


def test_every_mistake_in_a_file_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("filters:\n  prots: [1]\nlog:\n  level: loud\n")

    result = otelbpf("config", "--check", path)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"otelbpf: error: {path}:2:3: unknown key filters.prots; did you mean filters.ports?\n"
        f'otelbpf: error: {path}:4:10: log.level: "loud" is not one of debug, info, warn, error\n'
    )


def test_a_file_is_also_checked_against_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("capture:\n  ring_bytes: 100000\n")

    result = otelbpf("config", "--check", path)

    assert result.returncode == 1
    assert result.stderr == (
        f"otelbpf: error: capture.ring_bytes (file {path}:2): 100000 is not a power of two; the next one is 131072\n"
    )
