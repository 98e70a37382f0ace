"""What stands between a user and the probes: told before anything is tried."""

from __future__ import annotations

import pytest

from otelbpf.cli import live
from otelbpf.config.settings import Settings
from otelbpf.errors import PrivilegeError
from otelbpf.sources.privileges import BPF, PERFMON, SYS_ADMIN

_REMEDY = "run as root, for example with sudo; otelbpf doctor says more"


class _Attached(Exception):
    """The probes would be attached now."""


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        (set(), f"CAP_BPF (to load the probes) and CAP_PERFMON (to attach them) missing; {_REMEDY}"),
        ({BPF}, f"CAP_PERFMON (to attach them) missing; {_REMEDY}"),
        ({PERFMON}, f"CAP_BPF (to load the probes) missing; {_REMEDY}"),
        ({BPF, PERFMON}, ""),
        ({SYS_ADMIN}, ""),
    ],
)
def test_missing_capabilities_are_named_with_their_use(
    monkeypatch: pytest.MonkeyPatch, held: set[int], problem: str
) -> None:
    def attach(**settings: object) -> None:
        raise _Attached

    monkeypatch.setitem(live.__dict__, "LiveSource", attach)
    monkeypatch.setitem(live.__dict__, "has", lambda capability: capability in held)

    with pytest.raises(PrivilegeError if problem else _Attached) as caught:
        live.open_live(Settings())

    assert str(caught.value) == problem


def test_a_file_that_may_not_be_read_is_a_lack_of_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    def attach(**settings: object) -> None:
        raise PermissionError(13, "Permission denied", "/sys/kernel/tracing/events")

    monkeypatch.setitem(live.__dict__, "LiveSource", attach)
    monkeypatch.setitem(live.__dict__, "has", lambda capability: True)

    with pytest.raises(PrivilegeError) as caught:
        live.open_live(Settings())

    assert str(caught.value) == f"/sys/kernel/tracing/events refuses: Permission denied; {_REMEDY}"
