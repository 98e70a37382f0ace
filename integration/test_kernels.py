"""The same tests on Debian's kernels 5.10, 6.1 and 6.12, where kprobes exist: a guest each, booted once."""

from __future__ import annotations

import shlex
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from integration.harness.processes import ROOT
from integration.harness.programs import go_program, tool
from integration.harness.systems import debian_13
from integration.vm import guest
from integration.vm.kernels import SUITES, Unavailable, kernel

SELECTED = (
    "integration/test_http.py",
    "integration/test_calls.py",
    "integration/test_proxies.py::test_four_spans_a_request[kprobe-nginx]",
    "integration/test_servers.py::test_every_request_of_a_server[kprobe-gunicorn-gthread]",
    "integration/test_joining.py::test_connections_open_before[kprobe-go]",
    "integration/test_losses.py::test_a_ring_too_small[kprobe-bare]",
    "integration/test_tls.py::test_curl_and_nginx[kprobe-1.3]",
    "integration/test_tls.py::test_http2_inside[kprobe]",
    "integration/test_http2.py::test_a_hundred_streams_at_once[kprobe]",
    "integration/test_tls_rare.py::test_a_session_that_is_used_again[kprobe]",
    "integration/test_tls_http2.py::test_frames_that_calls_cut[kprobe-9]",
    "integration/test_killed.py",
    "integration/test_grpc.py::test_every_call[kprobe-python-python]",
    "integration/kernel/test_measures.py",
    "integration/kernel/test_frames.py::test_random_frames_in_random_pieces",
    "integration/kernel/test_frames.py::test_data_by_sendfile_is_gone_over",
)
"""What a guest runs. A collector's start takes half a minute there, so few of them, each proving much."""
WITH_TLS = (
    "integration/test_tls_kernel.py::test_files_that_nobody_reads[kprobe-1.2-1.1]",
    "integration/test_tls_kernel.py::test_files_that_nobody_reads[kprobe-1.3-2]",
    "integration/test_tls_kernel.py::test_both_ends[kprobe]",
    "integration/test_tls_kernel.py::test_a_connection_open_before[kprobe]",
    "integration/kernel/test_calls.py::test_kernel_tls_is_counted_and_never_misread[kprobe]",
)
"""And where the kernel has CONFIG_TLS, which Debian's 5.10 has not."""
WITH_TRACEPOINTS = (
    "integration/test_tls_kernel.py::test_files_that_nobody_reads[tracepoint-1.3-1.1]",
    "integration/test_tls_kernel.py::test_both_ends[tracepoint]",
    "integration/test_tls_kernel.py::test_a_connection_open_before[tracepoint]",
    "integration/kernel/test_calls.py::test_kernel_tls_is_counted_and_never_misread[tracepoint]",
)
"""And where both tiers work (6.3): there the calls on a socket that the kernel encrypts are seen."""
GUEST_SECONDS = 3000
AT_ONCE = 2

Key = tuple[str, str]
"""Module and name of a test."""


def selected(version: str) -> dict[str, tuple[str, ...]]:
    """What the guest of this kernel runs, by tier."""
    if version == "5.10":
        return {"kprobe": SELECTED}
    tests: dict[str, tuple[str, ...]] = {"kprobe": SELECTED + WITH_TLS}
    return tests if version == "6.1" else tests | {"tracepoint": WITH_TRACEPOINTS}


def modules() -> Iterator[tuple[str, str]]:
    """Each kernel with each module that has tests for it."""
    for version in SUITES:
        tests = [one for chosen in selected(version).values() for one in chosen]
        for module in sorted({Path(one.partition("::")[0]).stem for one in tests}):
            yield version, module


class Report(msgspec.Struct, frozen=True):
    """What the tests in a guest came to."""

    problems: dict[Key, str]
    """By test; empty where it passed."""
    ended: guest.Ended


def run_in_guest(version: str, results: Path) -> Report:
    """Boot, test, read the report."""
    python = shlex.quote(sys.executable)
    command = f"""
cd {shlex.quote(str(ROOT))}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
export INTEGRATION_SLOW={guest.slowdown()}
uname -r
"""
    for tier, tests in selected(version).items():
        options = f"-q -p no:cacheprovider -o timeout=0 --tb=short --junitxml=/results/{tier}.xml"
        command += f"INTEGRATION_TIER={tier} {python} -m pytest {shlex.join(tests)} {options}\n"
    ended = guest.run(kernel(version), command, results, within_seconds=GUEST_SECONDS)
    reports = [report for report in (results / f"{tier}.xml" for tier in selected(version)) if report.exists()]
    problems: dict[Key, str] = {}
    for case in (case for report in reports for case in ElementTree.parse(report).iter("testcase")):
        told = [found for kind in ("failure", "error", "skipped") if (found := case.find(kind)) is not None]
        module = case.get("classname", "").rpartition(".")[2]
        problems[module, case.get("name", "")] = "\n".join(
            f"{one.tag}: {one.get('message')} {one.text}" for one in told
        )
    return Report(problems, ended)


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Report]]:
    """The report of a kernel's guest; all guests are started with the first question, a few at a time."""
    tool("qemu-system-x86_64", "qemu-system-x86")
    for program in ("server.go", "client.go"):
        go_program(program)  # guests have no compiler's cache
    debian_13()  # and no network
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: dict[str, Future[Report]] = {
            version: pool.submit(run_in_guest, version, tmp_path_factory.mktemp(f"guest-{version}"))
            for version in SUITES
        }

        def report_of(version: str) -> Report:
            try:
                return running[version].result()
            except Unavailable as reason:
                pytest.skip(str(reason))

        yield report_of


@pytest.mark.timeout(3 * GUEST_SECONDS)
@pytest.mark.parametrize(("version", "module"), list(modules()))
def test_kernel(version: str, module: str, reports: Callable[[str], Report]) -> None:
    """Every selected test of a module ran in this kernel's guest and passed; a skip there is a failure here."""
    report = reports(version)
    ended = report.ended
    assert ended.status is not None, (
        f"the guest did not end by itself:\n{ended.console[-2000:]}\n{ended.output[-3000:]}"
    )
    ran = {name: problem for (of, name), problem in report.problems.items() if of == module}
    chosen = [one.partition("::") for tests in selected(version).values() for one in tests]
    named = {name for file, _, name in chosen if Path(file).stem == module and "[" in name}
    assert ran, f"no test of {module} ran:\n{ended.output[-3000:]}"
    assert named <= ran.keys(), f"not all tests of {module} ran:\n{ended.output[-3000:]}"
    wrong = {name: problem[-1500:] for name, problem in ran.items() if problem}
    assert not wrong, f"{len(wrong)} of {len(ran)} tests:\n" + "\n".join(f"{k}: {v}" for k, v in wrong.items())
