"""`otelbpf run` as a process of its own, over a fake kernel: ready, traced, stopped, accounted for."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.cli.command import ENVIRONMENT, FAKE_LIVE, Running, otelbpf
from tests.cli.fake_live import REQUESTS

BALANCED = f"""\
  requests
    begun                                   {REQUESTS:>20}
    spans                                   {REQUESTS:>20}
    difference                              {0:>20}
  spans given to file:-
    accepted                                {REQUESTS:>20}
    exported                                {REQUESTS:>20}
    difference                              {0:>20}
"""


def _spans(lines: str) -> list[dict[str, object]]:
    return [
        span
        for line in lines.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _status(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with Running(tmp_path, "run", "--export", "file:-", "--listen", "off") as running:
        ready = dict(word.split("=") for word in running.line("ready ").split()[1:])
        running.process.send_signal(number)
        status, output = running.end()

    assert status == 0
    assert ready.keys() == {"tier", "probes", "libraries", "services", "listen"}
    assert (ready["tier"], ready["probes"], ready["listen"]) == ("tracepoint", "2", "off")
    assert len(_spans(output)) == REQUESTS
    assert "planted" not in output
    assert BALANCED in running.stderr()
    assert running.stderr().endswith("closed\n")


def test_it_stops_by_itself_after_its_duration() -> None:
    result = otelbpf("run", "--duration", "300ms", "--listen", "off", "--export", "none", module=FAKE_LIVE)

    assert (result.returncode, result.stdout) == (0, "")
    assert f"    spans                                   {REQUESTS:>20}\n" in result.stderr


def test_without_a_backend_spans_go_to_the_terminal() -> None:
    result = otelbpf("run", "--duration", "100ms", "--listen", "off", module=FAKE_LIVE)

    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == REQUESTS
    assert "  spans given to console\n" in result.stderr


def test_health_follows_the_collector(tmp_path: Path) -> None:
    with Running(tmp_path, "run", "--export", "none", "--listen", "127.0.0.1:0", FAKE_LIVE="stuck") as running:
        ready = dict(word.split("=") for word in running.line("ready ").split()[1:])
        address = ready["listen"]
        assert json.loads(running.line("settings ").partition(" ")[2])["own_ports"] == [int(address.split(":")[1])]
        assert [_status(address, path) for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
        running.process.send_signal(signal.SIGTERM)
        while _status(address, "/readyz") == 200:
            pass
        assert [_status(address, path) for path in ("/healthz", "/readyz")] == [200, 503]


def test_before_the_probes_are_attached_it_is_alive_but_not_ready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with Running(tmp_path, "run", "--export", "none", "--listen", address, FAKE_LIVE="slow") as running:
        while True:
            try:
                assert [_status(address, path) for path in ("/healthz", "/readyz")] == [200, 503]
                break
            except ConnectionRefusedError:
                assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        status, _ = running.end()

    assert status == 130
    assert running.stderr().strip() == "otelbpf: interrupted"


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with Running(tmp_path, "run", "--export", "none", "--listen", "off", FAKE_LIVE="stuck") as running:
        running.line("ready ")
        running.process.send_signal(signal.SIGINT)
        # The first one must have arrived: two pending signals of one kind are one.
        running.process.send_signal(signal.SIGTERM)
        status, _ = running.end()

    assert status in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert running.stderr().splitlines()[-1] == ("otelbpf: second signal, ending at once; spans still queued are lost")


def test_what_was_captured_before_an_error_is_exported_and_accounted_for() -> None:
    result = otelbpf("run", "--export", "file:-", "--listen", "off", module=FAKE_LIVE, FAKE_LIVE="dies")

    assert result.returncode == 1
    assert len(_spans(result.stdout)) == REQUESTS
    assert BALANCED in result.stderr
    assert result.stderr.endswith("otelbpf: error: the ring is gone; start again\n")


def test_when_it_cannot_start_no_file_is_emptied(tmp_path: Path) -> None:
    spans = tmp_path / "spans.jsonl"
    spans.write_text("yesterday's\n")

    result = otelbpf("run", "--export", f"file:{spans}", "--listen", "off", module=FAKE_LIVE, FAKE_LIVE="unprivileged")

    assert result.returncode == 1
    assert result.stderr == "otelbpf: error: the kernel refuses to create BPF maps; run as root\n"
    assert spans.read_text() == "yesterday's\n"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_do_no_harm(tmp_path: Path, closed: str) -> None:
    spans = tmp_path / "spans.jsonl"
    command = f"{sys.executable} -m {FAKE_LIVE} run --duration 50ms --listen off --export file:{spans} {closed}"

    result = subprocess.run(command, shell=True, env=ENVIRONMENT, capture_output=True, timeout=60, check=False)

    assert result.returncode == 0
    assert len(_spans(spans.read_text())) == REQUESTS


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = otelbpf("run", "--listen", address, module=FAKE_LIVE)

    assert result.returncode == 1
    assert result.stderr == (
        f"otelbpf: error: cannot listen on {address}: the port is taken; "
        "choose another address with --listen HOST:PORT, or --listen off\n"
    )


def test_filters_and_limits_reach_the_kernel() -> None:
    result = otelbpf(
        *("run", "--duration", "50ms", "--listen", "off", "--export", "none"),
        *("--port", "80,90", "--port", "99", "--pid", "7", "--pid", "8", "--cgroup", "a/b", "--tier", "tracepoint"),
        module=FAKE_LIVE,
        OTELBPF_CAPTURE_HEAD_LIMIT_BYTES="4KiB",
        OTELBPF_CAPTURE_RING_BYTES="1MiB",
        OTELBPF_CAPTURE_SOCKETS="2000",
        OTELBPF_CAPTURE_SOCKET_WAITS="false",
    )

    told = next(line for line in result.stderr.splitlines() if line.startswith("settings "))
    assert json.loads(told.partition(" ")[2]) == {
        "tier": "tracepoint",
        "ports": [80, 90, 99],
        "pids": [7, 8],
        "cgroups": ["a/b"],
        "own_ports": [],
        "head_limit_bytes": 4096,
        "ring_bytes": 1 << 20,
        "max_sockets": 2000,
        "tls": True,
        "waits": False,
        "keep_privileges": True,
    }


@pytest.mark.parametrize("command", ["run", "record"])
def test_what_it_goes_on_without_is_told_before_it_is_ready(command: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "out.cap")] if command == "record" else ["--listen", "off", "--export", "none"]

    result = otelbpf(command, *arguments, "--duration", "10ms", module=FAKE_LIVE, FAKE_LIVE="limited")

    _, fallback, unwatched, limited, ready = result.stderr.splitlines()[:5]
    assert {**json.loads(fallback), "timestamp": ""} == {
        "tier": "tracepoint",
        "because": "this kernel has no kprobes",
        "costs": "a sent record's time is that of the call's end",
        "event": "capture.fallback",
        "level": "info",
        "timestamp": "",
    }
    assert {**json.loads(unwatched), "timestamp": ""} == {
        "because": "the kernel refuses a kprobe on sock_def_readable",
        "costs": "how long requests wait to be read, and how full accept queues are, is not told",
        "event": "capture.limited",
        "level": "warning",
        "timestamp": "",
    }
    assert {**json.loads(limited), "timestamp": ""} == {
        "because": "CAP_SYS_PTRACE missing",
        "costs": "no names",
        "remedy": "run as root",
        "event": "capture.limited",
        "level": "warning",
        "timestamp": "",
    }
    assert ready.startswith("ready ")


def test_a_replay_whose_spans_go_nowhere_fails(tmp_path: Path) -> None:
    capture = tmp_path / "out.cap"
    otelbpf("record", capture, "--duration", "10ms", module=FAKE_LIVE)

    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTELBPF_EXPORT_SHUTDOWN_SECONDS": "100ms"}
    result = otelbpf("replay", capture, **nowhere)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"otelbpf: error: {REQUESTS} of {REQUESTS} spans given to otlp were not exported; "
        "the warnings say why; replay again when that is mended"
    )


def test_a_recording_replays_to_the_same_spans(tmp_path: Path) -> None:
    capture = tmp_path / "out.cap"

    recorded = otelbpf("record", capture, "--duration", "100ms", module=FAKE_LIVE)
    replayed = otelbpf("replay", capture, "--export", "file:-")

    assert recorded.returncode == 0
    (told,) = (line for line in recorded.stderr.splitlines() if line.startswith(f"{capture}: "))
    assert told.endswith(f" records, {capture.stat().st_size:,} bytes")
    assert replayed.returncode == 0
    assert len(_spans(replayed.stdout)) == REQUESTS
    assert BALANCED in replayed.stderr


def test_what_is_told_follows_the_settings(tmp_path: Path) -> None:
    capture = tmp_path / "out.cap"
    otelbpf("record", capture, "--duration", "10ms", module=FAKE_LIVE)

    chosen = {
        "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": "POST,get",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a%2Cb,deployment.environment.name=test",
        "OTELBPF_REDACTION_REQUEST_HEADERS": "Host,X-None",
        "OTELBPF_REDACTION_QUERY_KEYS": "pin",
    }
    told = otelbpf("replay", capture, "--export", "file:-", **chosen)
    none = otelbpf("replay", capture, "--export", "file:-", OTEL_TRACES_SAMPLER="always_off")
    some = otelbpf(
        *("replay", capture, "--export", "file:-"), OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0"
    )

    assert (told.returncode, none.returncode, some.returncode) == (0, 0, 0)
    spans = _spans(told.stdout)
    assert len(spans) == REQUESTS
    for number, span in enumerate(spans):
        assert span["name"] == "HTTP /{id}"
        attributes = {pair["key"]: pair["value"] for pair in cast("list[dict[str, Any]]", span["attributes"])}
        assert attributes["http.request.method"] == {"stringValue": "_OTHER"}
        assert attributes["http.request.method_original"] == {"stringValue": "GET"}
        assert attributes["http.request.header.host"] == {"arrayValue": {"values": [{"stringValue": "h"}]}}
        assert attributes["url.path"] == {"stringValue": f"/{number}"}
        assert attributes["url.query"] == {"stringValue": "token=planted"}
        assert not [name for name in attributes if name.startswith("http.response.header.")]
    resources = [
        resource["resource"] for line in told.stdout.splitlines() for resource in json.loads(line)["resourceSpans"]
    ]
    for resource in resources:
        attributes = {
            pair["key"]: pair["value"]["stringValue"]
            for pair in resource["attributes"]
            if "stringValue" in pair["value"]
        }
        assert (attributes["team"], attributes["deployment.environment.name"]) == ("a,b", "test")
    for left_out in (none, some):
        assert left_out.stdout == ""
        assert f"    lost: sampled_out                       {REQUESTS:>20}\n" in left_out.stderr


def test_a_recording_is_not_overwritten_unawares(tmp_path: Path) -> None:
    capture = tmp_path / "out.cap"
    capture.write_bytes(b"precious")

    refused = otelbpf("record", capture, "--duration", "10ms", module=FAKE_LIVE)

    assert refused.returncode == 2
    assert capture.read_bytes() == b"precious"
    assert "--overwrite" in refused.stderr
    assert otelbpf("record", capture, "--overwrite", "--duration", "10ms", module=FAKE_LIVE).returncode == 0
    assert capture.read_bytes().startswith(b"OTELBPF\n")


def test_a_cut_recording_gives_what_it_holds_and_then_the_error(tmp_path: Path) -> None:
    capture = tmp_path / "out.cap"
    otelbpf("record", capture, "--duration", "10ms", module=FAKE_LIVE)
    whole = capture.read_bytes()
    capture.write_bytes(whole[: len(whole) - 4])

    result = otelbpf("replay", capture, "--export", "file:-")

    assert result.returncode == 1
    assert len(_spans(result.stdout)) == REQUESTS
    assert BALANCED in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"otelbpf: error: {capture} ")
