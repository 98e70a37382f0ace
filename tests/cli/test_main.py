"""Exit statuses, one line an error, and help at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from otelbpf.cli.main import otelbpf as group
from otelbpf.cli.main import run_command_line
from tests.cli.command import ENVIRONMENT, otelbpf

COMMANDS = ("run", "record", "replay", "health", "doctor", "config")


def test_help_lists_the_commands_and_teaches() -> None:
    result = otelbpf("--help")

    assert (result.returncode, result.stderr) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command}" in result.stdout
    assert "otelbpf run --export otlp --port 8080" in result.stdout


def test_nothing_said_is_a_call_for_help() -> None:
    result = otelbpf()

    assert (result.returncode, result.stdout) == (0, otelbpf("--help").stdout)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "doctor"])
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = CliRunner().invoke(group, [command, "--help"])

    assert result.exit_code == 0
    assert f"  otelbpf {command} " in result.output
    assert max(map(len, result.output.splitlines())) <= 110


def test_help_comes_at_once() -> None:
    # What takes time are imports: none of the heavy ones may happen. (The time itself is measured by a person.)
    code = (
        "import sys; from otelbpf.cli.main import run_command_line;"
        "commands = ([], ['run'], ['record'], ['replay'], ['health'], ['config']);"
        "[run_command_line([*command, '--help']) for command in commands];"
        "heavy = {'opentelemetry', 'grpc', 'requests', 'google', 'yaml', 'structlog', 'rich', 'msgspec', 'asyncio'};"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)

    assert result.stderr == "[]\n"


def test_version() -> None:
    result = otelbpf("--version")

    assert (result.returncode, result.stdout) == (0, "otelbpf, version 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runn"], "no command 'runn'; did you mean run?; see otelbpf --help"),
        (["zzz"], "no command 'zzz'; known: run, record, replay, health, doctor, config; see otelbpf --help"),
        (["run", "extra"], "Got unexpected extra argument (extra); see otelbpf run --help"),
        (
            ["run", "--port", "80,99999"],
            "Invalid value for '--port': \"80,99999\" is not a whole number (1 to 65535), or several separated by "
            "commas; see otelbpf run --help",
        ),
        (
            ["run", "--duration", "30x"],
            "Invalid value for '--duration': \"30x\" is not a duration such as 500ms, 30s or 5m (0 to 366d); "
            "see otelbpf run --help",
        ),
        (
            ["run", "--tier", "fentry"],
            "Invalid value for '--tier': \"fentry\" is not one of auto, kprobe, tracepoint; see otelbpf run --help",
        ),
        (
            ["run", "--export", "otpl"],
            "Invalid value for '--export': \"otpl\" is not an exporter: otlp, console, none, file:PATH or file:-, or "
            "several separated by commas; see otelbpf run --help",
        ),
        (
            ["run", "--port", ""],
            "Invalid value for '--port': the value is empty; give a whole number (1 to 65535), or several separated by "
            "commas, or leave the option out; see otelbpf run --help",
        ),
        (["replay"], "Missing argument 'FILE'; see otelbpf replay --help"),
        (["config"], "say --check FILE or --print; see otelbpf config --help"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(arguments: list[str], line: str) -> None:
    result = otelbpf(*arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"otelbpf: error: {line}\n"


def test_a_mistyped_option_is_told_with_the_likely_one() -> None:
    result = otelbpf("run", "--prot", "1")

    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("otelbpf: error: No such option")
    assert "--port" in line
    assert line.endswith("; see otelbpf run --help")


def test_what_cannot_be_done_is_one_line_and_status_1() -> None:
    result = otelbpf("replay", "/nowhere")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "otelbpf: error: cannot read /nowhere: No such file or directory; check the path\n"


def test_every_mistake_in_the_environment_is_one_line() -> None:
    result = otelbpf("run", OTELBPF_LOG_LEVEL="loud", OTELBPF_PORT="1")

    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "otelbpf: error: environment OTELBPF_PORT: unknown; did you mean OTELBPF_FILTERS_PORTS?",
        'otelbpf: error: environment OTELBPF_LOG_LEVEL: "loud" is not one of debug, info, warn, error',
    ]


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from otelbpf.cli.main import main; sys.argv = ['otelbpf', 'config', '--print']; main()"
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)

    assert result.stderr == ""


def test_a_defect_is_one_line_and_a_traceback_only_on_demand() -> None:
    result = otelbpf("run", module="tests.cli.fake_live", FAKE_LIVE="defect", OTELBPF_HEALTH_LISTEN="off")

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "otelbpf: error: internal error: ZeroDivisionError: planted; this is a defect of otelbpf: "
        "--debug before the command shows where"
    )
    asked = otelbpf("--debug", "run", module="tests.cli.fake_live", FAKE_LIVE="defect", OTELBPF_HEALTH_LISTEN="off")
    assert asked.returncode == 1
    assert "Traceback" in asked.stderr
    assert asked.stderr.endswith("ZeroDivisionError: planted\n")


def test_running_twice_in_one_process_is_possible(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--version"]) == 0
    assert run_command_line(["nothing"]) == 2
    assert run_command_line(["--version"]) == 0
    assert capsys.readouterr().out == "otelbpf, version 0.1.0\n" * 2
