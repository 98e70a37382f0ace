"""What programs/secured_pair.py does, as spans: plain text and TLS, both ends of each request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from integration.harness.docker import IMAGE, Engine
from integration.harness.programs import SOURCES
from integration.harness.secured import Certificate
from integration.harness.spans import SeenSpan

PROGRAM = SOURCES / "secured_pair.py"
COUNT = 23
"""Requests of each scheme."""
Told = Counter[tuple[object, ...]]


def begin_in(
    engine: Engine,
    name: str,
    folder: Path,
    identity: Certificate,
    ports: Sequence[int],
    *,
    image: str = IMAGE,
    network: str = "none",
) -> str:
    """Start `serve` in a container that has no network but its loopback, or another one; its id."""
    options = ["--detach", f"--name={name}", f"--network={network}", f"--volume={folder}:/identity:ro"]
    options += [f"--volume={PROGRAM}:/program.py:ro", "--entrypoint=python3"]
    files = [_inside(identity.file), _inside(identity.key)]
    return engine("run", *options, image, "/program.py", "serve", *map(str, ports), *files)


def ask_in(engine: Engine, name: str, identity: Certificate, ports: Sequence[int], run: str) -> None:
    """`ask` in the same container, of what serves there."""
    engine("exec", name, "python3", "/program.py", "ask", *map(str, ports), _inside(identity.file), run, str(COUNT))


def _inside(file: Path) -> str:
    return f"/identity/{file.name}"


def expected(run: str, service: str, container: str = "", *, kinds: Sequence[str] = ("SERVER", "CLIENT")) -> Told:
    """The spans of one `ask` of COUNT requests, of the ends that this service was."""
    return Counter(
        (kind, scheme, f"/r/{run}/{scheme}/{number}", 200 if number % 5 else 503, 10 * number, service, container)
        for kind in kinds
        for scheme in ("http", "https")
        for number in range(COUNT)
    )


def assert_told(seen: list[SeenSpan], wanted: Told) -> None:
    """Exactly these, and each server's span is the child of the client's that asked for the same."""
    told: Told = Counter(map(_described, seen))
    assert told == wanted, f"missing: {wanted - told}\nnot asked for: {told - wanted}"
    clients = {span.span_id: span for span in seen if span.kind == "CLIENT"}
    for span in seen:
        if span.kind == "SERVER":
            parent = clients[span.parent_id]
            assert (parent.path, parent.trace_id) == (span.path, span.trace_id)


def _described(span: SeenSpan) -> tuple[object, ...]:
    """Everything that the workload knows."""
    scheme = span.attributes.get("url.scheme") or str(span.attributes["url.full"]).partition(":")[0]
    size = span.attributes["http.response.body.size"]
    status = span.attributes["http.response.status_code"]
    resource = span.resource
    return span.kind, scheme, span.path, status, size, resource["service.name"], resource.get("container.id", "")
