"""A short-lived process of its own that compiles the probes, attaches them and hands every descriptor over.

`python -m otelbpf.sources.loader` is the only place that imports bcc, so that the compiler's memory ends with it.
Standard input is a unix socket: an `Order` comes in as JSON, a `Loaded` goes out, with the descriptors attached to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import os
import platform
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from otelbpf.errors import DependencyError, KernelError, OtelbpfError, PrivilegeError
from otelbpf.sources import kprobes, maps
from otelbpf.sources.btf import Btf
from otelbpf.sources.flatten import flatten
from otelbpf.sources.offsets import defines
from otelbpf.sources.privileges import not_as_root
from otelbpf.sources.queues import LOOK
from otelbpf.sources.uprobes import ATTACH_TYPE

_DISTRIBUTION = Path("/usr/lib/python3/dist-packages/bcc")
_PAGE_BYTES = 4096
_MAX_DETAILS = 8000
_MAX_TLS_SESSIONS = 32768
"""The one used least gives way: nobody may say when a session is over."""
_MAP_REFUSED = re.compile(r"could not open bpf map: (\w+), error: (.*)")

MAPS = (
    "events",
    "sockets",
    "untold",
    "settings",
    "losses",
    "listeners",
    "commands",
    "pids",
    "ports",
    "cgroups",
    "own_ports",
    "telling",
    "processes",
)
# Those twice do what their first program could not while it was interrupted: see tcp_state.c.
_COMMON = (
    ("on_state", "inet_sock_set_state"),
    ("on_state", "inet_sock_set_state"),
    ("on_destroy", "tcp_destroy_sock"),
    ("on_destroy", "tcp_destroy_sock"),
    ("on_exec", "sched_process_exec"),
    ("on_exit", "sched_process_exit"),
)
_TRACEPOINTS = (("on_send_length", "sock_send_length"), ("on_receive_length", "sock_recv_length"))
_KPROBES = (("on_send", "tcp_sendmsg"), ("on_receive", "tcp_recvmsg"))
_RETURNS = (("on_send_return", "tcp_sendmsg"), ("on_receive_return", "tcp_recvmsg"))
_READABLE = ("on_readable", "sk_data_ready")
_READABLE_CALL = ("on_readable_call", "sock_def_readable")
"""Before 6.3."""
_PAGES = ("on_send_page", "tcp_sendpage")
"""Until 6.4."""
_TELLING = ("on_call", "on_frames")
"""In the order of enum teller."""
_WALKING = "on_plain_frames"
"""It is called by that which runs where a library returns."""
TLS_PROGRAMS = (
    "on_library_read",
    "on_library_write",
    "on_library_read_ex",
    "on_library_write_ex",
    "on_library_write_ex2",
    "on_library_sendfile",
    "on_library_return",
    _WALKING,
    "on_handshake",
    "on_handshake_return",
    "on_early_status",
    "on_early_status_return",
    "on_session_new",
    "on_session_clear",
    "on_session_shutdown",
    "on_session_free",
    "on_session_share",
    "on_session_init",
    "on_session_init_return",
)
"""Loaded here and attached by sources.uprobes, to the functions that sources.targets finds."""


class Order(msgspec.Struct, frozen=True):
    """What to load."""

    tier: str
    """kprobe or tracepoint"""
    probes: str
    """The folder with main.c."""
    ring_bytes: int
    max_sockets: int
    tls: bool = False
    """With the programs that read the plain text of TLS."""
    waits: bool = True
    """With the program that runs whenever a socket can be read."""


class Loaded(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer: names in the order of the descriptors, maps first, then what is attached, then programs."""

    maps: list[str] = []
    attached: list[str] = []
    programs: list[str] = []
    """Loaded, to be attached later."""
    refused: str = ""
    """Why the programs for TLS are missing."""
    unwatched: str = ""
    """Why nothing tells when a socket can be read."""
    events: list[str] = []
    """Kprobe events made in tracefs, to be removed at the end."""
    error: str = ""
    problem: str = ""
    remedy: str = ""
    details: str = ""
    """What compiler and kernel said, for those who look for the cause."""


def main() -> None:
    """Answer one order on standard input's socket."""
    channel = socket.socket(fileno=os.dup(0))
    descriptors: list[int] = []
    # In memory: a container's root may be read-only.
    with open(os.memfd_create("compiler output"), "rb") as compiler_output:
        _redirect_errors(compiler_output.fileno())
        with contextlib.suppress(OtelbpfError):  # told when it is asked for
            import_bcc()
        asked = channel.recv(65536)
        if not asked:
            os._exit(0)  # nobody needs it any more
        order = msgspec.json.decode(asked, type=Order)
        try:
            answer, descriptors = load(order)
        except OtelbpfError as error:
            answer = Loaded(error=type(error).__name__, problem=error.problem, remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - its parent tells the user
            compiler_output.seek(0)
            answer = _explain(order, error, compiler_output.read().decode(errors="replace"))
    socket.send_fds(channel, [msgspec.json.encode(answer)], descriptors)
    sys.stdout.flush()
    # The descriptors live on in the other process; bcc would detach them one by one at exit.
    os._exit(0)


def _explain(order: Order, error: Exception, said: str) -> Loaded:
    """One line about an error that bcc did not explain to Python, only to standard error."""
    problem = f"the probes of the {order.tier} tier could not be loaded ({error})"
    remedy = "try another --tier; --debug before the command shows what the kernel said"
    if refused := _MAP_REFUSED.search(said):
        problem = f"the kernel refuses the map {refused[1]} ({refused[2]})"
        remedy = "a smaller capture.ring_bytes or capture.sockets may help"
    return Loaded(error="KernelError", problem=problem, remedy=remedy, details=said[-_MAX_DETAILS:])


def _redirect_errors(descriptor: int) -> None:
    """LLVM and libbpf write to standard error as they please."""
    os.dup2(descriptor, 2)


def load(order: Order) -> tuple[Loaded, list[int]]:
    """Compile, load and attach; names and descriptors in the same order."""
    if platform.machine() != "x86_64":
        raise KernelError(f"the probes do not know {platform.machine()} processors", "only x86_64 is supported")
    kprobe_tier = order.tier == "kprobe"
    if kprobe_tier:
        kprobes.require()
    bcc = import_bcc()
    module = _compile(bcc, order)
    tables = {name: _map_descriptor(bcc, module, name) for name in MAPS}
    attached: list[tuple[str, int]] = []
    events: list[str] = []
    kind = bcc.BPF.KPROBE if kprobe_tier else bcc.BPF.RAW_TRACEPOINT
    hooks = _COMMON + (() if kprobe_tier else _TRACEPOINTS)
    # The kernel takes a tenth of a second to verify each of those that tell, so they and the others go side by side.
    with ThreadPoolExecutor() as pool:
        telling = [pool.submit(_load_program, module, name, kind) for name in _TELLING]
        hooked = [_load_program(module, name, bcc.BPF.RAW_TRACEPOINT) for name, _ in hooks]
        programs, refused = _load_tls(bcc, module) if order.tls else ({}, "")
        programs[LOOK] = _load_program(module, LOOK, bcc.BPF.RAW_TRACEPOINT)
    if programs.get(_WALKING):
        tables["tls_telling"] = _map_descriptor(bcc, module, "tls_telling")
        maps.update(tables["tls_telling"], bytes(4), programs.pop(_WALKING).to_bytes(4, "little"))
    for number, teller in enumerate(telling):
        maps.update(tables["telling"], number.to_bytes(4, "little"), teller.result().to_bytes(4, "little"))
    # Data first and state last would miss births; state first sees no bytes of sockets it cannot place.
    for program, (name, tracepoint) in zip(hooked, hooks, strict=True):
        attached.append((f"{tracepoint}:{name}", _attach_raw_tracepoint(bcc, program, tracepoint)))
    if kprobe_tier:
        entries, returns = list(_KPROBES), list(_RETURNS)
        if kprobes.has_function(_PAGES[1]):
            entries.append(_PAGES)
            returns.append(("on_send_return", _PAGES[1]))
        calls = {name: _load_program(module, name, kind) for name, _ in entries + returns}
        for name, function, event, descriptor in kprobes.attach(calls, entries, returns):
            attached.append((f"{function}:{name}", descriptor))
            events.append(event)
    unwatched = ""
    if order.waits:
        try:
            attached += _watch(bcc, module, kprobe_tier, events)
        except OtelbpfError as error:
            unwatched = error.problem
    answer = Loaded(
        maps=list(tables),
        attached=[name for name, _ in attached],
        programs=list(programs),
        refused=refused,
        unwatched=unwatched,
        events=events,
    )
    return answer, [*tables.values(), *(descriptor for _, descriptor in attached), *programs.values()]


def _watch(bcc: Any, module: Any, kprobe_tier: bool, events: list[str]) -> list[tuple[str, int]]:
    """Attach to what makes sockets readable; adds what it leaves in tracefs to `events`."""
    if not kprobe_tier or kprobes.has_tracepoint("sock", _READABLE[1]):
        name, tracepoint = _READABLE
        program = _load_program(module, name, bcc.BPF.RAW_TRACEPOINT)
        return [(f"{tracepoint}:{name}", _attach_raw_tracepoint(bcc, program, tracepoint))]
    programs = {_READABLE_CALL[0]: _load_program(module, _READABLE_CALL[0], bcc.BPF.KPROBE)}
    attached = []
    for name, function, event, descriptor in kprobes.attach(programs, [_READABLE_CALL], []):
        attached.append((f"{function}:{name}", descriptor))
        events.append(event)
    return attached


def _load_tls(bcc: Any, module: Any) -> tuple[dict[str, int], str]:
    """All or none: what an application reads without what it writes is of no use."""
    try:
        return {name: _load_program(module, name, bcc.BPF.KPROBE, ATTACH_TYPE) for name in TLS_PROGRAMS}, ""
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest works without
        return {}, str(error)


def import_bcc() -> Any:
    """The distribution's bcc, found even from a virtual environment that cannot see it."""
    if "bcc" in sys.modules:
        return sys.modules["bcc"]
    try:
        if not (_DISTRIBUTION / "__init__.py").exists():
            return importlib.import_module("bcc")
        spec = importlib.util.spec_from_file_location(
            "bcc", _DISTRIBUTION / "__init__.py", submodule_search_locations=[str(_DISTRIBUTION)]
        )
        assert spec is not None
        assert spec.loader is not None
        bcc = importlib.util.module_from_spec(spec)
        sys.modules["bcc"] = bcc
        spec.loader.exec_module(bcc)
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"BCC cannot be loaded ({error})", "apt-get install python3-bpfcc (PyPI's bcc is another program)"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise DependencyError("the module bcc is not the BPF compiler", "apt-get install python3-bpfcc")
    return bcc


def _compile(bcc: Any, order: Order) -> Any:
    folder = Path(order.probes)
    kprobe_tier = order.tier == "kprobe"
    with Btf() as btf:
        settings = defines(btf, kprobes=kprobe_tier)
    settings += [
        f"-DRING_PAGES={order.ring_bytes // _PAGE_BYTES}",
        f"-DMAX_SOCKETS={order.max_sockets}",
        "-DWITH_KPROBES" if kprobe_tier else "-DWITH_TRACEPOINTS",
        "-Wno-unused-function",
        "-g0",  # a sixth of the time goes into what only debuggers read
        # BCC optimises what clang gives it, at its highest level. Once is enough: it saves a quarter of the time.
        "-Xclang",
        "-disable-llvm-passes",
    ]
    if order.tls:
        settings += ["-DWITH_TLS", f"-DMAX_TLS_SESSIONS={min(order.max_sockets, _MAX_TLS_SESSIONS)}"]
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include" / "headers")
    text = flatten(folder / "main.c")
    try:
        # For root BCC reads all symbols of the kernel, a fifth of the time, to find a function that is not called here.
        with not_as_root():
            return bcc.BPF(text=text.encode(), cflags=settings)
    except Exception as error:
        if ctypes.get_errno() == errno.EPERM or os.geteuid() != 0:
            raise PrivilegeError(
                "the kernel refuses to create BPF maps",
                "run as root, or with CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)",
            ) from error
        raise


def _map_descriptor(bcc: Any, module: Any, name: str) -> int:
    descriptor = bcc.lib.bpf_table_fd(module.module, name.encode())
    if descriptor < 0:
        raise KernelError(f"the map {name} was not made", "this is a defect of otelbpf")
    return int(descriptor)


def _load_program(module: Any, name: str, kind: int, attach_type: int = -1) -> int:
    """A program of its own at each call, even of the same function."""
    module.funcs.pop(name.encode(), None)
    return int(module.load_func(name, kind, None, attach_type).fd)


def _attach_raw_tracepoint(bcc: Any, program: int, tracepoint: str) -> int:
    descriptor = bcc.lib.bpf_attach_raw_tracepoint(program, tracepoint.encode())
    if descriptor < 0:
        raise refusal(tracepoint, ctypes.get_errno())
    return int(descriptor)


def refusal(tracepoint: str, number: int) -> KernelError:
    """Why a program could not be attached to a tracepoint, and what helps."""
    if number == errno.EMFILE:
        return KernelError("too many open files for the probes", "raise the limit: ulimit -n 1024")
    if number == errno.ENOENT and tracepoint in dict(_TRACEPOINTS).values():
        return KernelError(
            f"the kernel has no tracepoint {tracepoint}", "needs Linux 6.3, or --tier kprobe before that"
        )
    return KernelError(
        f"the kernel refuses a program at its tracepoint {tracepoint} ({os.strerror(number)})", "run otelbpf doctor"
    )


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
