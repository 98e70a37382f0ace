"""The running kernel as a source: attaches the probes, reads their ring, and writes back what user space wants.

Records come as the probes made them. Added here, because only user space knows: CLOCK, HOST, IDENTITY behind every
PROCESS record, LOSSES, and a last STATE record for each socket whose end the ring could not take or that is still open
when the source stops.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from otelbpf.errors import KernelError, OtelbpfError
from otelbpf.events import wire
from otelbpf.events.encode import encode_clock, encode_host, encode_identity, encode_losses
from otelbpf.events.types import Host, Identity
from otelbpf.sources import kprobes, maps
from otelbpf.sources.attach import Attachment, Loader
from otelbpf.sources.cgroups import cgroup_id
from otelbpf.sources.control import COMMAND, SETTINGS, Mode, Verdict
from otelbpf.sources.host import describe_host
from otelbpf.sources.last_words import LastWords
from otelbpf.sources.libraries import Libraries
from otelbpf.sources.listeners import find_services
from otelbpf.sources.privileges import KEPT, drop_privileges, what_to_keep
from otelbpf.sources.processes import describe
from otelbpf.sources.queues import LOOK, Queues
from otelbpf.sources.ring import Ring, of_kind
from otelbpf.sources.sockets import Mark
from otelbpf.sources.usage import Watch

_MAX_SERVICES: Final = 256
"""That are looked at before anything is traced: a third of a millisecond each."""
_POLL_SECONDS: Final = 0.05
_REPORT_NS: Final = 1_000_000_000
_BATCH_RECORDS: Final = 512
"""As many as the nearest caches hold together with the spans that come of them: 4096 cost a fifth more an exchange."""
_FIRST: Final = bytes(4)
_PROCESS: Final = int(wire.Kind.PROCESS)


class Describe(Protocol):
    """What can be read about a process; sources.processes.describe is one."""

    def __call__(
        self, pid: int, started_ns: int, time_ns: int, *, comm: str, cgroup: int, forked_from: int
    ) -> Identity: ...


class LiveSource:
    """The probes of this kernel, attached as long as the source is open."""

    def __init__(
        self,
        *,
        tier: str = "auto",
        ports: Collection[int] = (),
        pids: Collection[int] = (),
        cgroups: Iterable[str] = (),
        traced: Callable[[Identity], bool] | None = None,
        own_ports: Iterable[int] = (),
        head_limit_bytes: int = 8192,
        more_limit_bytes: int = 65536,
        ring_bytes: int = 16 << 20,
        max_sockets: int = 65536,
        tls: bool = False,
        waits: bool = True,
        keep_privileges: bool = False,
        probes: Path | None = None,
        loader: Loader | None = None,
        describe: Describe = describe,
        tell_attached: Callable[[str, int], None] = lambda _path, _pid: None,
        host: Host | None = None,
    ) -> None:
        """Attaches the probes; raises an OtelbpfError that names the remedy when it cannot.

        `traced` decides by a process's identity (executables), the other filters in the kernel; all of them must agree.
        `own_ports` are those this process already listens at: neither end of their connections is traced.
        `tls` reads the plain text of TLS where it can; `tls_refused` says why it cannot. `tell_attached` is told each
        file that is read as well from then on, and a process that has it mapped; `libraries` counts the first ones.
        `waits` notes when bytes arrive in accepted sockets and connections in listening ones; `loader` is Attachment's.
        Unless `keep_privileges`, this thread, and those it starts later, keep only what reading needs."""
        self._describe = describe
        self._tell_attached = tell_attached
        self._host = msgspec.structs.replace(host or describe_host(), addressed_only=bool(ports))
        self._traced = traced
        self._stopping = False
        self._closed = False
        self._generation = 0
        self._holding: bool | None = None
        self._commanded = False
        self._losses = b""
        self._reported_ns = 0
        self._cpus = maps.possible_cpus()
        cgroup_ids = [cgroup_id(path) for path in cgroups]
        modes = (
            Mode.PIDS * bool(pids or traced)
            | Mode.ASK * bool(traced and not pids)
            | Mode.EXECUTABLES * bool(traced)
            | Mode.PORTS * bool(ports)
            | Mode.CGROUPS * bool(cgroup_ids)
        )
        wake_bytes = max(4096, ring_bytes // 8 // self._cpus)
        self._settings = (os.getpid(), modes, head_limit_bytes, more_limit_bytes, wake_bytes)
        self.passed_over = ""
        """Why `auto` did not take the tier it prefers."""
        kprobes.remove_abandoned()
        self._libraries = Libraries(hold=self._hold, tell=self._tell_later) if tls else None
        attach = partial(
            Attachment, ring_bytes=ring_bytes, max_sockets=max_sockets, waits=waits, probes=probes, loader=loader
        )
        try:
            self._attachment = self._attach_with_tls(tier, attach)
        except BaseException:
            self._let_go_of_libraries()
            raise
        self._maps = self._attachment.maps
        own_namespace = os.stat("/proc/self/ns/net").st_ino
        verdict = Verdict.UNKNOWN if traced else Verdict.TRACED
        for name, key, value in (
            *(("pids", pid.to_bytes(4, "little"), verdict.to_bytes(4, "little")) for pid in pids),
            *(("ports", port.to_bytes(2, "little"), b"\1") for port in ports),
            *(("cgroups", number.to_bytes(8, "little"), b"\1") for number in cgroup_ids),
            *(("own_ports", port.to_bytes(4, "little"), own_namespace.to_bytes(4, "little")) for port in own_ports),
        ):
            maps.update(self._maps[name], key, value)
        self._ring = Ring(self._maps["events"], ring_bytes)
        self._queues = Queues(
            self._maps["listeners"],
            self._attachment.programs[LOOK],
            ports=ports,
            names_owners=not (cgroup_ids or pids),
            introduce=self._introduce,
        )
        self._watch = Watch()
        self._last_words = LastWords(self._maps["sockets"], self._maps["untold"], self._ring)
        self._poll = select.epoll()
        self._poll.register(self._maps["events"], select.EPOLLIN)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        if self._libraries is not None:
            self._libraries.attach(self._attachment.programs, refused=self._attachment.refused)
        services = find_services(but=os.getpid(), ports=ports, pids=pids)
        self.services = services if traced is None else [pid for pid in services if self._is_asked_for(pid)]
        """Processes that listened for TCP when the probes were attached, of those asked for: one a service."""
        if not keep_privileges:
            drop_privileges(what_to_keep(KEPT, suffices=self.is_readable))
        # Until now the probes saw no settings, and so did nothing.
        self._holding = False
        self._write_settings()

    @property
    def tier(self) -> str:
        """kprobe or tracepoint."""
        return self._attachment.tier

    @property
    def probes(self) -> list[str]:
        """What is attached."""
        return self._attachment.probes

    def is_readable(self) -> bool:
        """Whether this thread may use the probes' maps."""
        return maps.lookup(self._maps["settings"], _FIRST, SETTINGS.size) is not None

    @property
    def unwatched(self) -> str:
        """Why it is not noted when sockets can be read; empty where it is, or was not asked for."""
        return self._attachment.unwatched

    @property
    def libraries(self) -> int:
        """Files with a TLS library that have probes now."""
        return self._libraries.attached if self._libraries is not None else 0

    @property
    def tls_refused(self) -> str:
        """Why the plain text of TLS is not read; empty where it is, or was not asked for."""
        return self._libraries.refused if self._libraries is not None else ""

    def batches(self) -> Iterator[Sequence[bytes]]:
        """See sources.base.Source."""
        yield [self._host_record(), self._clock_record(), *self._known_services()]
        while not self._stopping:
            records = self._ring.read(_BATCH_RECORDS)
            if not records:
                self._poll.poll(_POLL_SECONDS)
                records = self._ring.read(_BATCH_RECORDS)
            yield self._complete(records)
            self._flush_commands()
        self._let_go_of_libraries()
        self._attachment.detach()
        # The uprobes take a while to go: without settings they do nothing.
        maps.update(self._maps["settings"], _FIRST, bytes(SETTINGS.size))
        while records := self._ring.read(_BATCH_RECORDS):
            yield self._complete(records)
        now_ns = time.monotonic_ns()
        yield [*self._last_words.at_end(), *self._queues.look(now_ns), self._clock_record(), self._losses_record()]

    def stop(self) -> None:
        """See sources.base.Source."""
        self._stopping = True
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    def mute(self, key: bytes) -> None:
        """See sources.base.Source."""
        self._command(key, Mark.MUTED)

    def copy_more(self, key: bytes) -> None:
        """See sources.base.Source."""
        self._command(key, Mark.MORE)

    def walk_frames(self, key: bytes, received_offset: int, sent_offset: int) -> None:
        """See sources.base.Source."""
        self._command(key, Mark.FRAMES, received_offset, sent_offset)

    def close(self) -> None:
        """See sources.base.Source."""
        if self._closed:
            return
        self._closed = True
        self._poll.close()
        os.close(self._wake)
        self._ring.close()
        self._let_go_of_libraries()
        self._attachment.close()

    def losses(self) -> tuple[tuple[int, int], ...]:
        """The kernel's loss counters, (events, bytes) by `wire.Loss`, summed over the processors."""
        counts = []
        for reason in wire.Loss:
            value = maps.lookup(self._maps["losses"], reason.to_bytes(4, "little"), 16 * self._cpus) or b""
            pairs = list(struct.iter_unpack("<QQ", value))
            counts.append((sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)))
        if self._attachment.events:
            events, count = counts[wire.Loss.NO_ENTRY]
            counts[wire.Loss.NO_ENTRY] = (events + kprobes.missed(self._attachment.events), count)
        return tuple(counts)

    def _attach(self, tier: str, attach: partial[Attachment]) -> Attachment:
        if tier == "auto":
            try:
                kprobes.require()
                return attach(tier="kprobe")
            except OtelbpfError as error:
                self.passed_over = error.problem
                tier = "tracepoint"
        return attach(tier=tier)

    def _attach_with_tls(self, tier: str, attach: partial[Attachment]) -> Attachment:
        """What is only there for TLS must not keep the rest from being traced."""
        if self._libraries is not None and self._libraries.possible:
            try:
                return self._attach(tier, partial(attach, tls=True))
            except KernelError as error:
                self._libraries.give_up(error.problem)
        return self._attach(tier, attach)

    def _hold(self, holding: bool) -> None:
        """Let no session begin midway while a library's functions get their probes one after the other: what is read
        would be told without what is written. Before the start there is nothing to hold."""
        if self._holding is not None:
            self._holding = holding
            self._write_settings()

    def _tell_later(self, path: str, pid: int) -> None:
        if self._holding is not None:
            self._tell_attached(path, pid)

    def _let_go_of_libraries(self) -> None:
        if self._libraries is not None:
            self._libraries.close()

    def _complete(self, records: list[bytes]) -> list[bytes]:
        """The records with what user space adds: identities right behind their process records, reports when due."""
        if met := of_kind(records, _PROCESS):
            records = [more for record in records for more in self._with_identity(record)]
            if self._libraries is not None:
                # Who they are comes first: a process may end while its library is seen to.
                for record in met:
                    self._libraries.look(wire.PROCESS.unpack(record)[6])
        now_ns = time.monotonic_ns()
        if now_ns - self._reported_ns >= _REPORT_NS:
            self._reported_ns = now_ns
            records += [
                *self._queues.look(now_ns),
                *self._watch.look(now_ns),
                self._clock_record(),
                self._losses_record(),
            ]
            if self._libraries is not None:
                self._libraries.look_again(now_ns)
            self._last_words.look(self.losses()[wire.Loss.RING_FULL_STATE][0])
        records += self._last_words.due()
        return records

    def _with_identity(self, record: bytes) -> Iterator[bytes]:
        yield record
        if record[0] != _PROCESS:
            return
        _, _, _, time_ns, _, _, pid, _, started_ns, cgroup, comm, forked_from, _ = wire.PROCESS.unpack(record)
        self._watch.add(pid)
        name = comm.partition(b"\0")[0].decode("utf-8", "replace")
        identity = self._describe(pid, started_ns, time_ns, comm=name, cgroup=cgroup, forked_from=forked_from)
        yield encode_identity(identity)
        if self._traced:
            verdict = Verdict.TRACED if self._traced(identity) else Verdict.FILTERED
            # Without room the process stays undecided: its records come, and whoever reads them decides.
            with contextlib.suppress(OSError):
                maps.update(self._maps["pids"], pid.to_bytes(4, "little"), verdict.to_bytes(4, "little"))

    def _known_services(self) -> Iterator[bytes]:
        """Who they are: the record of a process comes with its first request, after which it may soon be gone."""
        for pid in self.services[:_MAX_SERVICES]:
            yield from self._introduce(pid, time.monotonic_ns())

    def _introduce(self, pid: int, since_ns: int) -> Iterator[bytes]:
        """Who a process is that has listened since then. One that began later only has got its number."""
        now_ns = time.monotonic_ns()
        identity = self._describe(pid, 0, now_ns, comm="", cgroup=0, forked_from=0)
        suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now_ns
        if identity.executable and identity.started_ns <= since_ns + suspended_ns:
            yield encode_identity(identity)

    def _is_asked_for(self, pid: int) -> bool:
        identity = self._describe(pid, 0, time.monotonic_ns(), comm="", cgroup=0, forked_from=0)
        return self._traced is not None and self._traced(identity)

    def _command(self, key: bytes, mark: Mark, received_offset: int = 0, sent_offset: int = 0) -> None:
        socket, epoch_ns = struct.unpack("<QQ", key)
        command = COMMAND.pack(epoch_ns, mark, 0, received_offset, sent_offset)
        maps.update(self._maps["commands"], struct.pack("<Q", socket), command)
        self._commanded = True

    def _flush_commands(self) -> None:
        if self._commanded:
            self._commanded = False
            self._generation = (self._generation + 1) & 0xFFFF_FFFF
            self._write_settings()

    def _write_settings(self) -> None:
        maps.update(
            self._maps["settings"], _FIRST, SETTINGS.pack(*self._settings, self._generation, bool(self._holding), 0)
        )

    def _clock_record(self) -> bytes:
        """The pair of readings that lie closest together."""
        pairs = []
        for _ in range(3):
            before = time.monotonic_ns()
            unix_ns = time.time_ns()
            after = time.monotonic_ns()
            pairs.append((after - before, (before + after) // 2, unix_ns))
        _, time_ns, unix_ns = min(pairs)
        return encode_clock(time_ns=time_ns, offset_ns=unix_ns - time_ns)

    def _losses_record(self) -> bytes:
        return encode_losses(time_ns=time.monotonic_ns(), counts=self.losses())

    def _host_record(self) -> bytes:
        return encode_host(self._host, time_ns=time.monotonic_ns())
