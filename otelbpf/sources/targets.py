"""Which files get uprobes: the TLS libraries that processes have mapped, and programs that carry one within them.

A file is looked at once, told by device and inode as /proc/PID/maps has them, and reached through the process that
has it mapped: so libraries in containers, and those replaced on disk meanwhile, are the very ones at work. Containers
of one image have one inode, whatever their maps say (sources.inodes); its probes are made once, and go when no process
has it mapped any more.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from otelbpf.sources.elf import Program
from otelbpf.sources.inodes import inode_of
from otelbpf.sources.processes import PROC
from otelbpf.sources.symbols import Symbols


class Hook(msgspec.Struct, frozen=True):
    """The programs of one function: at its entry and at its return; empty where none is."""

    entry: str = ""
    leaving: str = ""


_LEAVE: Final = "on_library_return"
HOOKS: Final[Mapping[str, Hook]] = {
    "SSL_read": Hook("on_library_read", _LEAVE),
    "SSL_write": Hook("on_library_write", _LEAVE),
    "SSL_read_ex": Hook("on_library_read_ex", _LEAVE),
    "SSL_write_ex": Hook("on_library_write_ex", _LEAVE),
    "SSL_write_ex2": Hook("on_library_write_ex2", _LEAVE),
    "SSL_read_early_data": Hook("on_library_read_ex", _LEAVE),
    "SSL_write_early_data": Hook("on_library_write_ex", _LEAVE),
    "SSL_do_handshake": Hook("on_handshake", "on_handshake_return"),
    "SSL_get_early_data_status": Hook("on_early_status", "on_early_status_return"),
    "SSL_sendfile": Hook("on_library_sendfile", _LEAVE),
    "SSL_new": Hook("", "on_session_new"),
    "SSL_clear": Hook("on_session_clear"),
    "SSL_shutdown": Hook("on_session_shutdown"),
    "SSL_up_ref": Hook("on_session_share"),
    "SSL_free": Hook("on_session_free"),
    "gnutls_record_recv": Hook("on_library_read", _LEAVE),
    "gnutls_record_recv_early_data": Hook("on_library_read", _LEAVE),
    "gnutls_record_send": Hook("on_library_write", _LEAVE),
    "gnutls_record_send2": Hook("on_library_write", _LEAVE),
    # It may be refused, and whoever sends it need not ask: what the session says from here on is met as if midway.
    "gnutls_record_send_early_data": Hook("on_session_free"),
    "gnutls_init": Hook("on_session_init", "on_session_init_return"),
    "gnutls_bye": Hook("on_session_shutdown"),
    "gnutls_deinit": Hook("on_session_free"),
}
"""By symbol: which programs of probes/tls_openssl.c and probes/tls_gnutls.c run there."""
CARRIERS: Final = frozenset(("SSL_read", "SSL_write", "gnutls_record_recv", "gnutls_record_send"))
"""A file that has none of them carries no library."""
_NAMED_SO: Final = re.compile(r"lib(?:ssl|gnutls|python|node)[-.0-9a-z]*\.so|_ssl\b[^/]*\.so")
_MAPPING: Final = re.compile(
    r"^0*([0-9a-f]+)-0*([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*)", re.MULTILINE
)
USUAL: Final = (
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    "/usr/lib/x86_64-linux-gnu/libssl.so.1.1",
    "/usr/lib/x86_64-linux-gnu/libgnutls.so.30",
    "/usr/lib64/libssl.so.3",
    "/usr/lib64/libssl.so.1.1",
    "/usr/lib64/libgnutls.so.30",
    "/usr/local/lib/libssl.so.3",
    "/usr/local/lib64/libssl.so.3",
    "/usr/bin/node",
    "/usr/local/bin/node",
)
"""Attached whether a process has them mapped or not: then nothing of a program that starts later is missed."""
_BIRTHS: Final = ("SSL_new", "SSL_clear", "gnutls_init")
"""Hooked last: of a session that was seen to begin nothing may be missed."""
_MAX_FILES: Final = 16384
_MAX_ATTACHED: Final = 1024
_MAX_PROCESSES: Final = 65536

FileKey = tuple[str, int]
"""Device and inode, as /proc/PID/maps tells them."""


class Attach(Protocol):
    """Makes a uprobe; sources.uprobes.Uprobes.attach is one."""

    def __call__(self, program: int, file: int, offset: int, *, at_return: bool) -> int: ...


class _Inode:
    __slots__ = ("events", "files")

    def __init__(self, events: list[int]) -> None:
        self.events = events
        """Its uprobes."""
        self.files = 0
        """How many files are known that have this inode."""


class _File:
    __slots__ = ("inode", "pids", "stays")

    def __init__(self, inode: Hashable, *, stays: bool) -> None:
        self.inode = inode
        """None where the file carries no library, or cannot be reached."""
        self.pids: set[int] = set()
        self.stays = stays


class Targets:
    """The files that have uprobes, and the processes they are mapped in."""

    def __init__(
        self,
        programs: Mapping[str, int],
        attach: Attach,
        release: Callable[[int], None],
        *,
        symbols: Symbols,
        hold: Callable[[bool], None] = lambda _: None,
        tell: Callable[[str, int], None] = lambda _path, _pid: None,
        proc: Path = PROC,
        usual: Iterable[str] = USUAL,
    ) -> None:
        """`programs`: descriptors by name. `release` takes away what `attach` made. `hold` is told when only a part
        of a library's functions has probes, and when all of them have; `tell` which file has its probes since, and the
        process that has it mapped."""
        self._programs = programs
        self._attach = attach
        self._release = release
        self._symbols = symbols
        self._hold = hold
        self._tell = tell
        self._proc = proc
        self._files: dict[FileKey, _File] = {}
        self._inodes: dict[Hashable, _Inode] = {}  # those with uprobes
        self._known: dict[int, bool] = {}  # pid: whether it has a library
        self._sizes: dict[int, bytes] = {}  # pid: what it had mapped, in pages, when it was looked at again
        self.failure = ""
        """Why a file that carries a library could not be attached, the last time."""
        for path in usual:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
                if (device, status.st_ino) not in self._files:
                    self._files[device, status.st_ino] = _File(self._open_and_attach([path], 0), stays=True)

    @property
    def attached(self) -> int:
        """Inodes with uprobes."""
        return len(self._inodes)

    def readable(self, pid: int) -> bool:
        """Whether a library was found in that process."""
        return self._known.get(pid, False)

    def look_at_all(self) -> None:
        """Every process there is."""
        for entry in os.listdir(self._proc):
            if entry.isdigit():
                self.look(int(entry))

    def look(self, pid: int) -> bool:
        """Attach to the libraries a process has mapped now; whether it has any."""
        if len(self._known) > _MAX_PROCESSES:
            self.tidy()
        mapped: set[FileKey] = set()
        for key, path, places in self._mapped(pid):
            file = self._files.get(key)
            if file is None:
                if len(self._files) >= _MAX_FILES:
                    continue
                before = self.attached
                file = self._files[key] = _File(self._open_and_attach(places, key[1]), stays=False)
                if self.attached > before:
                    self._tell(path, pid)
            file.pids.add(pid)
            mapped.add(key)
        for key, file in self._files.items():
            if key not in mapped:
                file.pids.discard(pid)  # it runs another program now, or is another process with that number
        self._known[pid] = any(self._files[key].inode is not None for key in mapped)
        return self._known[pid]

    def look_again(self) -> None:
        """At every process that has not as much mapped as before: it may have loaded a library, or one more."""
        for pid in list(self._known):
            size = self._size(pid)
            if size != self._sizes.get(pid):
                self._sizes[pid] = size
                self.look(pid)

    def tidy(self) -> None:
        """Forget processes that have ended, and let go of files that nobody has mapped any more."""
        ended = {pid for pid in self._known if not (self._proc / str(pid)).exists()}
        for pid in ended:
            del self._known[pid]
            self._sizes.pop(pid, None)
        for key, file in list(self._files.items()):
            file.pids -= ended
            if not file.pids and not file.stays:
                del self._files[key]
                self._forget(file.inode)

    def close(self) -> None:
        """Take every uprobe away."""
        for inode in self._inodes.values():
            self._let_go(inode.events)
        self._files = {}
        self._inodes = {}

    def _mapped(self, pid: int) -> Iterator[tuple[FileKey, str, list[str]]]:
        """The files of a process that may carry a library, as it names them, and the paths by which they can be
        reached."""
        folder = f"{self._proc}/{pid}"
        try:
            executable = os.readlink(f"{folder}/exe").removesuffix(" (deleted)")
            with open(f"{folder}/maps", encoding="utf-8", errors="surrogateescape") as lines:
                text = lines.read()
        except OSError:
            return  # ended, a thread of the kernel, or not to be looked at
        seen: set[FileKey] = set()
        for start, end, device, inode, name in _MAPPING.findall(text):
            path = name.removesuffix(" (deleted)")
            key = (device, int(inode))
            if key in seen or not (path == executable or _NAMED_SO.match(path.rpartition("/")[2])):
                continue
            seen.add(key)
            # The first is the very file; the second may be another by now, and wants a look.
            yield key, path, [f"{folder}/map_files/{start}-{end}", f"{folder}/root{path}"]

    def _size(self, pid: int) -> bytes:
        """That of its address space: a tenth of the price of the map."""
        try:
            with open(f"{self._proc}/{pid}/statm", "rb") as file:
                return file.read().partition(b" ")[0]
        except OSError:
            return b""  # ended

    def _open_and_attach(self, places: Sequence[str], number: int) -> Hashable:
        """The inode that has probes now; None where there is nothing to attach to. `number`: that of the file, which
        the last place must have, if it is known."""
        for place in places:
            try:
                with open(place, "rb") as file:
                    if number and place == places[-1] and os.fstat(file.fileno()).st_ino != number:
                        continue
                    return self._attach_once(file)
            except ValueError:
                return None
            except OSError as error:
                self.failure = f"{place}: {error.strerror}"
        return None

    def _attach_once(self, file: BinaryIO) -> Hashable:
        inode = inode_of(file.fileno())
        known = self._inodes.get(inode)
        if known is None:
            offsets = self._symbols.find(Program(file)) if len(self._inodes) < _MAX_ATTACHED else {}
            if not offsets:
                return None
            known = self._inodes[inode] = _Inode(self._attach_all(file.fileno(), offsets))
        known.files += 1
        return inode

    def _attach_all(self, file: int, offsets: Mapping[str, int]) -> list[int]:
        events: list[int] = []
        self._hold(True)
        try:
            for name, program, at_return in _in_order(offsets):
                events.append(self._attach(self._programs[program], file, offsets[name], at_return=at_return))
        except OSError:
            self._let_go(events)
            raise
        finally:
            self._hold(False)
        return events

    def _forget(self, inode: Hashable) -> None:
        """One file less that has this inode."""
        known = self._inodes.get(inode)
        if known is not None:
            known.files -= 1
            if not known.files:
                del self._inodes[inode]
                self._let_go(known.events)

    def _let_go(self, events: list[int]) -> None:
        for event in events:
            self._release(event)
        events.clear()


def names_library(path: str) -> bool:
    """Whether a file is called as one that carries a library, or may load one."""
    return _NAMED_SO.match(path.rpartition("/")[2]) is not None


def _in_order(names: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Function, program and whether it is for the return. Returns first, so that no call is noted whose return is not
    awaited; what makes sessions last."""
    for births in (False, True):
        chosen = [name for name in names if (name in _BIRTHS) is births]
        yield from ((name, HOOKS[name].leaving, True) for name in chosen if HOOKS[name].leaving)
        yield from ((name, HOOKS[name].entry, False) for name in chosen if HOOKS[name].entry)
