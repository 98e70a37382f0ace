"""The errors a user can meet. Each is one line that names the thing and the remedy.

OtelbpfError
├── ConfigError       a setting that cannot be: file, line, key, nearest valid key
├── PrivilegeError    not root, or a capability is missing
├── KernelError       the kernel lacks something: BTF, ring buffer, kprobes, tracefs
├── DependencyError   a package is missing
├── CaptureError      a damaged, truncated or future capture file
└── ExportError       an exporter cannot start: port taken, file not writable
"""

from __future__ import annotations


class OtelbpfError(Exception):
    """What went wrong and, behind it, what helps; shown to the user as one line, never as a traceback."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class ConfigError(OtelbpfError):
    """A setting that cannot be."""


class PrivilegeError(OtelbpfError):
    """The process may not do what the command needs."""


class KernelError(OtelbpfError):
    """The running kernel cannot do what the command needs."""


class DependencyError(OtelbpfError):
    """A package the command needs is not installed."""


class CaptureError(OtelbpfError):
    """A capture file that cannot be read to its end; `offset` is where reading stopped, in bytes."""

    def __init__(self, problem: str, remedy: str = "", *, offset: int = 0) -> None:
        super().__init__(problem, remedy)
        self.offset = offset


class ExportError(OtelbpfError):
    """An exporter that cannot start."""
