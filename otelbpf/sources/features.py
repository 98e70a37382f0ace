"""What this host can do for the probes, each thing tried for real, and what its absence costs."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from otelbpf.errors import OtelbpfError
from otelbpf.sources import kprobes, privileges, trial
from otelbpf.sources.attach import Attachment
from otelbpf.sources.btf import Btf
from otelbpf.sources.cgroups import cgroup_root
from otelbpf.sources.elf import Program
from otelbpf.sources.offsets import defines
from otelbpf.sources.uprobes import Uprobes

_TRIAL_RING_BYTES: Final = 1 << 16
_TRIAL_SOCKETS: Final = 1024
WITHOUT_KPROBES: Final = "a sent record's time is that of the call's end"
"""What the tracepoint tier tells less exactly."""
WITHOUT_ARRIVALS: Final = "how long requests wait to be read, and how full accept queues are, is not told"
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC
"""PROC_PID_INIT_INO: the inode number the kernel gives to the namespace it starts with."""


class Feature(msgspec.Struct, frozen=True):
    """One thing a host has or lacks."""

    name: str
    works: bool
    found: str
    """What was seen when it was tried."""
    costs: str
    """What is lost without it."""
    remedy: str
    needed: bool
    """Nothing can be traced without it."""


class Tier(msgspec.Struct, frozen=True):
    """One of the probes' techniques, attached and let go again."""

    name: str
    works: bool
    found: str
    remedy: str


def features() -> list[Feature]:
    """Everything, in the order in which it is needed."""
    return [
        _feature("processor", _processor, "nothing can be traced", "use an x86_64 host", needed=True),
        _feature("bpf", _bpf, "nothing can be traced", "run as root, or with CAP_BPF and CAP_PERFMON", needed=True),
        _feature("ring buffer", _ring, "nothing can be traced", "needs Linux 5.8", needed=True),
        _feature(
            "type information",
            _type_information,
            "nothing can be traced",
            "needs a kernel built with CONFIG_DEBUG_INFO_BTF",
            needed=True,
        ),
        _feature("compiler", _compiler, "nothing can be traced", "apt-get install python3-bpfcc", needed=True),
        _feature("raw tracepoints", _raw_tracepoints, "nothing can be traced", "needs CAP_PERFMON", needed=True),
        _feature(
            "kprobes",
            _kprobes,
            f"no kprobe tier: {WITHOUT_KPROBES}",
            "needs a kernel built with CONFIG_KPROBE_EVENTS, and tracefs",
        ),
        _feature("tracefs", _tracefs, "no kprobe tier", "mount -t tracefs tracefs /sys/kernel/tracing"),
        _feature(
            "socket length tracepoints",
            _length_tracepoints,
            "no tracepoint tier: kprobes are needed",
            "needs Linux 6.3",
        ),
        _feature(
            "readable sockets",
            _readable,
            WITHOUT_ARRIVALS,
            "needs Linux 6.3, or kprobes",
        ),
        _feature("saved registers", _saved_registers, "no tracepoint tier: kprobes are needed", "needs Linux 5.15"),
        _feature("uprobes", _uprobes, "TLS is not looked into", "needs CONFIG_UPROBE_EVENTS and CAP_SYS_ADMIN"),
        *surroundings(),
        _feature("cgroup v2", _cgroups, "no --cgroup filter", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
        _feature("compiled probes", _jit, "each probe costs several times more", "sysctl net.core.bpf_jit_enable=1"),
        _feature(
            "compiled otelbpf",
            _compiled,
            "a span costs twice the processor time",
            "install it with OTELBPF_COMPILE=1 and a C compiler, as make setup does",
        ),
        _feature("lockdown", _lockdown, "the kernel refuses to let probes read memory", "boot with lockdown=integrity"),
    ]


def surroundings() -> list[Feature]:
    """What the kernel does not need, but whoever reads what the probes deliver: quick to see, and worth a word at each
    start."""
    return [
        _feature(
            "processes",
            _processes,
            "processes of other users stay unnamed: no executable, no OTEL_SERVICE_NAME",
            "run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        ),
        _feature(
            "pid namespace",
            _pid_namespace,
            "pids are those of the host: processes cannot be looked up here, and the collector traces itself",
            "start the container with --pid=host",
        ),
    ]


def tiers() -> list[Tier]:
    """The techniques, the preferred one first; each is compiled, loaded and attached."""
    return [_tier(name) for name in ("kprobe", "tracepoint")]


def _tier(name: str) -> Tier:
    try:
        if name == "kprobe":
            kprobes.require()
        with Attachment(tier=name, ring_bytes=_TRIAL_RING_BYTES, max_sockets=_TRIAL_SOCKETS) as attachment:
            return Tier(name, True, f"{len(attachment.probes)} probes attached", "")
    except OtelbpfError as error:
        return Tier(name, False, error.problem, error.remedy)


def _feature(name: str, attempt: Callable[[], str], costs: str, remedy: str, *, needed: bool = False) -> Feature:
    try:
        return Feature(name, True, attempt(), costs, "", needed)
    except OtelbpfError as error:
        return Feature(name, False, error.problem, costs, error.remedy or remedy, needed)
    except PermissionError as error:
        return Feature(
            name, False, error.strerror or str(error), costs, "run as root, or with CAP_BPF and CAP_PERFMON", needed
        )
    except OSError as error:
        return Feature(name, False, error.strerror or str(error), costs, remedy, needed)


def _processor() -> str:
    if platform.machine() != "x86_64":
        raise OtelbpfError(f"{platform.machine()}, whose registers the probes do not know")
    return platform.machine()


def _bpf() -> str:
    with trial.program(trial.RAW_TRACEPOINT):
        return "a program was loaded"


def _ring() -> str:
    with trial.ring_buffer():
        return "one was made"


def _type_information() -> str:
    with Btf() as btf:
        return f"{len(defines(btf, kprobes=False))} settings found"


def _compiler() -> str:
    # Importing it here would keep its memory; the tiers below try it for real, in a process of its own.
    for folder in ("/usr/lib/python3/dist-packages/bcc", "/usr/lib/python3/site-packages/bcc"):
        if Path(folder, "__init__.py").is_file():
            return folder
    raise OtelbpfError("BCC's Python module is not installed")


def _raw_tracepoints() -> str:
    trial.raw_tracepoint("inet_sock_set_state")
    return "attached to inet_sock_set_state"


def _kprobes() -> str:
    kprobes.require()
    with trial.program(trial.KPROBE) as program:
        kprobes.attempt(program, "tcp_sendmsg")
    return "attached to tcp_sendmsg"


def _tracefs() -> str:
    return str(kprobes.tracefs())


def _length_tracepoints() -> str:
    trial.raw_tracepoint("sock_send_length")
    trial.raw_tracepoint("sock_recv_length")
    return "attached to sock_send_length, sock_recv_length"


def _readable() -> str:
    try:
        trial.raw_tracepoint("sk_data_ready")
    except OSError:
        kprobes.require()
        with trial.program(trial.KPROBE) as program:
            kprobes.attempt(program, "sock_def_readable")
        return "attached to sock_def_readable"
    return "attached to sk_data_ready"


def _saved_registers() -> str:
    with trial.program(trial.RAW_TRACEPOINT, saved_registers=True):
        return "bpf_task_pt_regs may be called"


def _uprobes() -> str:
    uprobes = Uprobes()
    with trial.program(trial.KPROBE) as program, open("/proc/self/exe", "rb") as file:
        place = Program(file).entry
        if place is None:
            raise OtelbpfError("this program has no beginning")
        os.close(uprobes.attach(program, file.fileno(), place, at_return=False))
    return "one was attached"


def _processes() -> str:
    missing = [
        privileges.NAMES[capability]
        for capability in (privileges.SYS_PTRACE, privileges.DAC_READ_SEARCH)
        if not privileges.has(capability)
    ]
    if missing:
        raise OtelbpfError(f"{' and '.join(missing)} missing")
    return "/proc of other users' processes may be read"


def _pid_namespace() -> str:
    if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
        raise OtelbpfError("this process is in a pid namespace of its own")
    return "the host's"


def _cgroups() -> str:
    root = cgroup_root()
    if root is None:
        raise OtelbpfError("not mounted")
    return str(root)


def _jit() -> str:
    # The setting is not there in a kernel that always compiles (CONFIG_BPF_JIT_ALWAYS_ON), or hidden from a container.
    setting = Path("/proc/sys/net/core/bpf_jit_enable")
    if setting.exists() and setting.read_text().strip() == "0":
        raise OtelbpfError("the BPF compiler is off")
    return "the BPF compiler is on"


def _compiled() -> str:
    # By the name alone: nothing of it is needed here.
    found = importlib.util.find_spec("otelbpf.connections.tracker")
    if found is None or found.origin is None or found.origin.endswith(".py"):
        raise OtelbpfError("runs as Python")
    return "what stands in the way of every request is native code"


def _lockdown() -> str:
    state = Path("/sys/kernel/security/lockdown")
    if not state.exists():
        return "none, or securityfs is not mounted"
    text = state.read_text()
    if "[confidentiality]" in text:
        raise OtelbpfError("confidentiality")
    return text.partition("[")[2].partition("]")[0] or text.strip()
