"""Which source of a setting wins, and that every value knows where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbpf.config.load import Loaded, load, standard_environment
from otelbpf.config.table import table
from otelbpf.errors import ConfigError


def _load(environment: dict[str, str] | None = None, **flags: object) -> Loaded:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load(file=None, environment=environment or {}, flags=given)


def _refused(environment: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(environment)
    return str(caught.value)


def test_defaults_when_nothing_is_given() -> None:
    loaded = _load()

    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == list(table())
    assert loaded.settings.health.listen == "127.0.0.1:9464"


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("log: {level: warn}\ncapture:\n  sockets: 2000\n  tier: kprobe\n")
    environment = {"OTELBPF_LOG_LEVEL": "error", "OTELBPF_CAPTURE_SOCKETS": "3000"}

    loaded = load(file=str(path), environment=environment, flags={"capture.tier": "tracepoint"})

    assert loaded.settings.log.level == "error"
    assert loaded.settings.capture.sockets == 3000
    assert loaded.settings.capture.tier == "tracepoint"
    assert {key: origin for key, origin in loaded.origins.items() if origin != "default"} == {
        "log.level": "environment OTELBPF_LOG_LEVEL",
        "capture.sockets": "environment OTELBPF_CAPTURE_SOCKETS",
        "capture.tier": "flag --tier",
    }
    only_file = load(file=str(path), environment={}, flags={})
    assert only_file.origins["log.level"] == f"file {path}:1"
    assert only_file.origins["capture.tier"] == f"file {path}:4"


def test_the_file_may_be_named_by_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("log: {level: warn}\n")

    loaded = _load({"OTELBPF_CONFIG": str(path)})

    assert loaded.settings.log.level == "warn"


@pytest.mark.parametrize("key", list(table()))
def test_every_setting_can_be_given_by_its_own_variable_as_it_is_printed(key: str) -> None:
    row = table()[key]
    text = row.show(row.default)

    loaded = _load({row.variable: text})

    section, name = key.split(".")
    assert getattr(getattr(loaded.settings, section), name) == row.default
    assert loaded.origins[key] == (f"environment {row.variable}" if text else "default")


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "otlp,console", "export.to", ("otlp", "console")),
        ("OTEL_BSP_SCHEDULE_DELAY", "250", "export.delay_seconds", 0.25),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "17", "export.batch_spans", 17),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "export.queue_spans", 2048),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1500", "export.timeout_seconds", 1.5),
        ("OTEL_TRACES_SAMPLER", "traceidratio", "sampling.sampler", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5", "sampling.ratio", 0.5),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d%2Ce", "resource.attributes", {"a": "b", "c": "d,e"}),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET, Brew", "conventions.known_methods", ("GET", "Brew")),
        ("OTEL_LOG_LEVEL", "DEBUG", "log.level", "debug"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "9000", "health.listen", "localhost:9000"),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "::1", "health.listen", "[::1]:9464"),
    ],
)
def test_standard_variables(variable: str, text: str, key: str, value: object) -> None:
    loaded = _load({variable: text})

    section, name = key.split(".")
    assert getattr(getattr(loaded.settings, section), name) == value
    assert loaded.origins[key] == f"environment {variable}"


def test_the_projects_own_variable_wins_over_the_standard_one() -> None:
    loaded = _load({"OTEL_LOG_LEVEL": "error", "OTELBPF_LOG_LEVEL": "debug"})

    assert loaded.settings.log.level == "debug"
    assert loaded.origins["log.level"] == "environment OTELBPF_LOG_LEVEL"


def test_an_empty_variable_is_not_set() -> None:
    loaded = _load({"OTEL_LOG_LEVEL": "", "OTELBPF_LOG_LEVEL": " ", "OTEL_TRACES_SAMPLER": ""})

    assert loaded == _load()


def test_bad_variables_are_all_named() -> None:
    assert _refused(
        {
            "OTELBPF_FILTER_PORTS": "1",
            "OTELBPF_FILTERS_PORTS": "0",
            "OTEL_BSP_MAX_QUEUE_SIZE": "0",
            "OTEL_BSP_SCHEDULE_DELAY": "5s",
            "OTEL_BSP_EXPORT_TIMEOUT": "-1",
            "OTEL_RESOURCE_ATTRIBUTES": "a",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "x",
        }
    ).splitlines() == [
        "environment OTELBPF_FILTER_PORTS: unknown; did you mean OTELBPF_FILTERS_PORTS?",
        'environment OTELBPF_FILTERS_PORTS: "0" is not a whole number (1 to 65535), or several separated by commas',
        'environment OTEL_BSP_MAX_QUEUE_SIZE: "0" is not a whole number (1 to 1073741824), or auto',
        'environment OTEL_BSP_SCHEDULE_DELAY: "5s" is not a whole number of milliseconds (0 to 3600000)',
        'environment OTEL_BSP_EXPORT_TIMEOUT: "-1" is not a whole number of milliseconds (0 to 3600000)',
        'environment OTEL_RESOURCE_ATTRIBUTES: "a" is not pairs such as deployment.environment.name=test,team=shop',
        'environment OTEL_EXPORTER_PROMETHEUS_PORT: "localhost:x" is not HOST:PORT such as 127.0.0.1:9464 or '
        "[::1]:9464, or off",
    ]


def test_what_may_be_a_secret_is_not_repeated() -> None:
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTELBPF_OTLP_HEADERS"):
        assert _refused({variable: "Authorization: Bearer planted"}) == (
            f"environment {variable}: the value (not shown) is not pairs such as "
            "deployment.environment.name=test,team=shop"
        )


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {"OTELBPF_CAPTURE_RING_BYTES": "100000"},
            "capture.ring_bytes (environment OTELBPF_CAPTURE_RING_BYTES): 100000 is not a power of two; "
            "the next one is 131072",
        ),
        (
            {"OTELBPF_LIMITS_HEAD_BYTES": "4KiB"},
            "limits.head_bytes (environment OTELBPF_LIMITS_HEAD_BYTES): less than capture.head_limit_bytes, "
            "so that copied bytes would be thrown away",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "11"},
            "export.batch_spans (environment OTEL_BSP_MAX_EXPORT_BATCH_SIZE): more than export.queue_spans, "
            "which is 10",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp,otlp"},
            "export.to (environment OTEL_TRACES_EXPORTER): otlp is named twice",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp,none"},
            "export.to (environment OTEL_TRACES_EXPORTER): none stands alone; leave it out, or leave the others out",
        ),
        (
            {"OTELBPF_EXPORT_TO": "console,file:-"},
            "export.to (environment OTELBPF_EXPORT_TO): console and file:- both write to standard output; "
            "give the file a path",
        ),
    ],
)
def test_settings_must_fit_each_other(environment: dict[str, str], problem: str) -> None:
    assert _refused(environment) == problem


def test_otlp_settings_reach_the_exporters_as_standard_variables(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "otlp:\n  endpoint: http://a:4317\n  protocol: auto\n  timeout_seconds: 2s\n  insecure: true\n"
        "  headers: {authorization: 'Bearer a,b=c'}\n  compression: gzip\n"
    )
    environment = {"HOME": "/", "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate", "OTELBPF_OTLP_CLIENT_KEY": "/k"}

    loaded = load(file=str(path), environment=environment, flags={})

    assert standard_environment(loaded, environment) == {
        "HOME": "/",
        "OTELBPF_OTLP_CLIENT_KEY": "/k",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2000",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a%2Cb%3Dc",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k",
    }


def test_the_variable_for_traces_goes_before_the_general_one_and_stays_what_it_is() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1/x",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:2",
    }

    loaded = _load(environment)

    assert loaded.settings.otlp.endpoint == "http://a:1/x"
    assert loaded.origins["otlp.endpoint"] == "environment OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    assert standard_environment(loaded, environment) == environment


def test_the_projects_own_variable_takes_the_place_of_both_standard_ones() -> None:
    environment = {
        "OTELBPF_OTLP_ENDPOINT": "http://c:3",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1/x",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:2",
    }

    assert standard_environment(_load(environment), environment) == {
        "OTELBPF_OTLP_ENDPOINT": "http://c:3",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:3",
    }
