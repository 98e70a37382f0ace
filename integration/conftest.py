"""What every integration test may ask for, and why one would be skipped."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import cgroups
from integration.harness.cases import Played
from integration.harness.collector import doctor
from integration.harness.processes import Running

NEEDS_ROOT = "needs root: probes are loaded and namespaces made"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root nothing that captures can be true or false."""
    if os.geteuid() != 0:
        for item in items:
            if "tier" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))


def tiers() -> list[str]:
    """The capture tiers this kernel can do, as the collector itself found by trying; or the one asked for."""
    wanted = os.environ.get("INTEGRATION_TIER")
    if wanted:
        return [wanted]
    if os.geteuid() != 0:
        return ["tracepoint"]
    return [tier["name"] for tier in doctor()["tiers"] if tier["works"]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that captures runs once in every tier this kernel can do."""
    if "tier" in metafunc.fixturenames:
        metafunc.parametrize("tier", tiers(), scope="session")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test started and did not end, because it failed, ends with it."""
    before = Running.at_work()
    yield
    Running.stop_all(keep=before)


@pytest.fixture
def run() -> str:
    """What tells this test's requests from all others on the host."""
    return secrets.token_hex(4)


@pytest.fixture(scope="session")
def group_of_tests() -> Iterator[Path]:
    """The cgroup of those that are alone."""
    with cgroups.of_tests() as group:
        yield group


@pytest.fixture
def alone(group_of_tests: Path) -> Iterator[None]:
    """Apart from all that is not the test's: collectors of TLS tell nothing of the host's other programs."""
    with cgroups.alone(group_of_tests):
        yield


@pytest.fixture(scope="session")
def played(tier: str, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Every conversation of test_http.py and test_calls.py, under one collector."""
    from integration import test_calls, test_http  # noqa: PLC0415 - which ask for this fixture

    return Played({**test_http.CASES, **test_calls.CASES}, tier, tmp_path_factory.mktemp("played"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the test's own that servers can read after they gave up being root."""
    above = [path for path in tmp_path.parents if path.is_relative_to(tempfile.gettempdir())]
    for path in (tmp_path, *above):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o055 != 0o055 and path != Path(tempfile.gettempdir()):
            path.chmod(mode | 0o055)
    return tmp_path
