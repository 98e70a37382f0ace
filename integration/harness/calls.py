"""gRPC: what is called, what must come of it, and whether the spans say exactly that."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from integration.harness.processes import Running, accepts, free_port, greets, python, wait_for
from integration.harness.programs import SOURCES, go_module, grpc_jars, java_classes, node_modules, tool
from integration.harness.spans import SeenSpan

PREFIX = 5
"""Bytes in front of each message."""
OF_SERVER = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))
"""Statuses that are a server's error; a client's are all but OK."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plan (integration/programs/grpc_workload.py), and what must come of it."""

    id: str
    method: str
    requests: int = 1
    size: int = 10
    ask: str = ""
    timeout_ms: int = 0
    cancel_ms: int = 0
    status: str = "OK"
    responses: int | None = 1
    """Messages of the response; None where none has begun, or how many were sent is a matter of luck."""
    response_size: int | None = None


class Line(msgspec.Struct, frozen=True):
    """One line of a log."""

    id: str
    status: str
    messages: int
    start_ns: int
    end_ns: int


# Kind, messages asked with, their size, wishes, timeout, cancellation, status, messages of the answer, its content.
SHAPES: tuple[tuple[str, int, int, str, int, int, str, int | None, int | None], ...] = (
    ("Unary", 1, 10, "size=20", 0, 0, "OK", 1, 25),
    ("Unary", 1, 0, "size=0", 0, 0, "OK", 1, 5),
    ("Unary", 1, 3000, "size=4000", 0, 0, "OK", 1, 4005),
    ("ClientStream", 7, 100, "size=9", 0, 0, "OK", 1, 14),
    ("ServerStream", 1, 5, "responses=6&size=50", 0, 0, "OK", 6, 330),
    ("Bidi", 4, 20, "responses=2&size=30", 0, 0, "OK", 6, 170),
    ("Unary", 1, 10, "status=5", 0, 0, "NOT_FOUND", 0, 0),
    ("Unary", 1, 10, "status=13", 0, 0, "INTERNAL", 0, 0),
    ("ServerStream", 1, 5, "responses=3&size=10&status=14", 0, 0, "UNAVAILABLE", 3, 45),
    ("Bidi", 2, 10, "responses=0&status=3", 0, 0, "INVALID_ARGUMENT", 2, 30),
    ("Unary", 1, 10, "delay=5&size=1", 0, 0, "OK", 1, 6),
    ("Unary", 1, 10, "size=1", 20_000, 0, "OK", 1, 6),
    ("Nothing", 1, 10, "", 0, 0, "UNIMPLEMENTED", 0, 0),
)
ENDINGS: tuple[tuple[str, int, int, str, int, int, str, int | None, int | None], ...] = (
    ("Unary", 1, 10, "delay=1500", 300, 0, "DEADLINE_EXCEEDED", None, None),
    ("Unary", 1, 10, "delay=1500", 0, 200, "CANCELLED", None, None),
    ("ServerStream", 1, 10, "delay=1500", 20_000, 200, "CANCELLED", None, None),
)
"""Calls that the client gives up."""


def plan(run: str, count: int, *, endings: bool = True) -> list[Call]:
    """Every shape in turn, `count` calls; then those that are given up. Every method is another."""
    shapes = [SHAPES[number % len(SHAPES)] for number in range(count)] + list(ENDINGS if endings else ())
    calls = []
    for number, (kind, requests, size, ask, timeout, cancel, status, responses, content) in enumerate(shapes):
        calls.append(
            Call(
                id=f"{number:05d}",
                method=f"/r{run}.S{number:05d}/{kind}",
                requests=requests,
                size=size,
                ask=ask,
                timeout_ms=timeout,
                cancel_ms=cancel,
                status=status,
                responses=responses,
                response_size=content,
            )
        )
    return calls


Argv = Callable[..., Sequence[str | Path]]
PROGRAMS: dict[str, Argv] = {
    "python": lambda *words: [python(), "-m", "integration.programs.grpc_workload", *words],
    "go": lambda *words: [go_module("grpc"), *words],
    "java": lambda *words: [
        tool("java", "default-jdk-headless"), "-XX:TieredStopAtLevel=1", "-cp", java_classes("Grpc.java", grpc_jars()),
        "Grpc", *words,
    ],
    "node": lambda *words: [
        tool("env", "coreutils"), f"MODULES={node_modules('@grpc/grpc-js@1.14')}",
        tool("node", "nodejs"), SOURCES / "grpc.mjs", *words,
    ],
    "web": lambda *words: [
        tool("env", "coreutils"), f"MODULES={node_modules('@connectrpc/connect-node@2.1')}",
        tool("node", "nodejs"), SOURCES / "web.mjs", *words,
    ],
}  # fmt: skip


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was carried out."""

    calls: list[Call]
    port: int
    server: Running
    client: Running
    lines: dict[str, Line]


def write(calls: list[Call], path: Path) -> Path:
    """The plan as its file."""
    path.write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in calls))
    return path


class Server:
    """A gRPC server at work."""

    def __init__(
        self, kind: str, calls: list[Call], folder: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        """`environment` may name files for TLS, to the programs that know them: node's."""
        self.kind = kind
        self.port = free_port()
        path = write(calls, folder / "server.plan")
        self.running = Running(
            PROGRAMS[kind]("server", str(self.port), *([path] if kind in ("node", "web") else [])),
            folder=folder,
            name=f"grpc-server-{kind}",
            environment={"OTEL_SERVICE_NAME": f"server-{kind}", **(environment or {})},
        )

        def ready() -> bool:
            assert self.running.alive(), self.running.output()
            return (
                accepts(self.port)
                if environment or kind == "web"
                else all(greets(address, self.port) for address in ("127.0.0.1", "::1"))
            )

        wait_for(f"the {kind} server", ready, within_seconds=30, otherwise=self.running.output)


def play(
    kind: str,
    server: Server,
    calls: list[Call],
    folder: Path,
    *,
    at_once: int,
    environment: Mapping[str, str] | None = None,
) -> Played:
    """Let a client of this kind carry the plan out; every status must be the one expected."""
    log = folder / f"{kind}.log"
    path = write(calls, folder / f"{kind}.plan")
    client = Running(
        PROGRAMS[kind]("client", path, log, str(at_once), f"127.0.0.1:{server.port}"),
        folder=folder,
        name=f"grpc-client-{kind}",
        environment={"OTEL_SERVICE_NAME": f"client-{kind}", **(environment or {})},
        stdin=subprocess.PIPE,
    )

    def done() -> bool:
        assert client.alive(), client.output()[-3000:]
        return log.exists()

    wait_for(f"the log of the {kind} client", done, within_seconds=60)
    return Played(calls=calls, port=server.port, server=server.running, client=client, lines=read(log, calls))


def play_on(before: Played, calls: list[Call], folder: Path) -> Played:
    """Let the same client, of Python, carry out another plan on the connection it has."""
    log = folder / "on.log"
    path = write(calls, folder / "on.plan")
    assert before.client.process.stdin is not None
    before.client.process.stdin.write(f"{path} {log}\n".encode())
    before.client.process.stdin.flush()
    wait_for("the second log", log.exists, within_seconds=60)
    return msgspec.structs.replace(before, calls=calls, lines=read(log, calls))


def read(log: Path, calls: list[Call]) -> dict[str, Line]:
    """A log by id; every status must be the one expected."""
    lines = {line.id: line for line in map(_line, log.read_bytes().splitlines())}
    wrong = [(call.method, lines[call.id].status) for call in calls if lines[call.id].status != call.status]
    assert not wrong, f"the workload itself went wrong: {wrong}"
    return lines


_line = msgspec.json.Decoder(Line).decode


def assert_equal(played: Played, spans: Sequence[SeenSpan], *, linked: bool = True) -> None:
    """Exactly a CLIENT and a SERVER span of each call, the one the other's parent."""
    wrong: list[str] = []
    seen = Counter((span.kind, method_of(span)) for span in spans)
    wanted = Counter((kind, call.method[1:]) for call in played.calls for kind in ("CLIENT", "SERVER"))
    wrong += [f"MISSING {key}" for key in (wanted - seen)]
    wrong += [f"NOT EXPECTED {key}" for key in (seen - wanted)]
    found = {(span.kind, method_of(span)): span for span in spans}
    for call in played.calls:
        ends = [found.get((kind, call.method[1:])) for kind in ("CLIENT", "SERVER")]
        for span in ends:
            if span is not None:
                wrong += [f"{span.kind} {call.method} ({call.ask}): {line}" for line in compare(call, span, played)]
        client, server = ends
        if linked and client and server and (server.trace_id, server.parent_id) != (client.trace_id, client.span_id):
            wrong.append(f"NOT THE CHILD {call.method}")
    assert not wrong, f"{len(wrong)} differences, {len(spans)} spans seen\n" + "\n".join(wrong[:60])


def method_of(span: SeenSpan) -> str:
    """The method that was called."""
    return str(span.attributes.get("rpc.method_original", span.attributes.get("rpc.method", "")))


def compare(call: Call, span: SeenSpan, played: Played) -> list[str]:
    """Every field that is not what it must be."""
    serving = span.kind == "SERVER"
    status = call.status
    if serving and status == "DEADLINE_EXCEEDED" and span.attributes.get("rpc.response.status_code") == "CANCELLED":
        # Its client says no more than CANCEL, and a server that read the request late was cancelled before its time.
        status = "CANCELLED"
    other = serving and status == "UNIMPLEMENTED"
    failed = status in OF_SERVER if serving else status != "OK"
    line = played.lines[call.id]
    wanted: dict[str, Any] = {
        "rpc.system.name": "grpc",
        "rpc.method": "_OTHER" if other else call.method[1:],
        "rpc.response.status_code": status,
        "error.type": status if failed else None,
        "otelbpf.rpc.request.messages": call.requests,
        "http.request.body.size": call.requests * (PREFIX + call.size),
        "network.protocol.name": "http",
        "network.protocol.version": "2",
        "server.address": "127.0.0.1",
        "server.port": played.port,
        "otelbpf.unknown": None,
        "otelbpf.request.incomplete": None,
        "otelbpf.response.incomplete": None,
    }
    if call.responses is not None:
        wanted |= {
            "otelbpf.rpc.response.messages": call.responses,
            "http.response.body.size": call.response_size,
        }
    have = span.attributes
    if serving and other and have.get("http.request.body.size") == 0:
        # It answered before it read what was asked.
        wanted |= {"otelbpf.rpc.request.messages": 0, "http.request.body.size": 0}
    several = call.requests > 1 and played.client.name.endswith("java")
    if several and "otelbpf.rpc.request.messages" not in have:
        # Several messages in one frame: what begins within it is not seen, and not guessed.
        del wanted["otelbpf.rpc.request.messages"]
    lines = [
        f"{name} is {span.attributes.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if span.attributes.get(name) != value
    ]
    program = played.server if serving else played.client
    kind = program.name.rpartition("-")[2]
    own = {
        "name": ("grpc" if other else call.method[1:], span.name),
        "status": ("ERROR" if failed else "UNSET", span.status),
        "pid": (program.pid, span.pid),
        "service.name": (f"{span.kind.lower()}-{kind}", span.resource.get("service.name")),
    }
    lines += [f"{name} is {have!r}, not {want!r}" for name, (want, have) in own.items() if want != have]
    early, late = line.start_ns - span.start_ns, span.end_ns - line.end_ns
    if early > 2_000_000 or (not serving and late > 100_000_000):
        lines.append(f"its times are not the client's: {early} ns early, {late} ns late")
    return lines
