"""What happened, as the workload knows it, and whether the spans say exactly that.

Every expectation is one span; every span that could be the workload's must be expected. Fields are compared for
equality; times against the client's own clock. `differences` returns every disagreement, each a line of its own.

Times and tolerance. The client notes its clock before it asks and after it has the whole answer, so both spans of a
request must begin after the first and, but for the tolerance, end before the second. A send is stamped when its
system call is entered in the kprobe tier and when it returns in the tracepoint tier. On loopback the receiver may
have read the bytes (and answered) before the sender's call has returned, and a sender that is preempted there is
stamped late by however long it waits for a processor: LATE_RETURN_NS bounds that wait on a loaded machine. CLOCK_NS
bounds how far the collector's conversion from monotonic to Unix time may be from the client's reading of its clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from integration.harness.processes import SLOW
from integration.harness.spans import SeenSpan

CLOCK_NS = int(500_000 * SLOW)
LATE_RETURN_NS = int(100_000_000 * SLOW)

_PLACEHOLDERS = ("{id}", "{date}", "{value}")
STANDARD_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """One span that must exist. None means that the workload cannot know."""

    kind: Literal["SERVER", "CLIENT"]
    pids: frozenset[int]
    """The span's process is one of these."""
    service: str | None = None
    method: str
    scheme: str = "http"
    path: str
    query: str = ""
    status: int
    """0: no answer came."""
    version: str = "1.1"
    request_size: int | None
    response_size: int | None
    server_address: str
    """As the request named it (the authority of its URL or its Host)."""
    server_port: int
    peer_address: str
    """The other end's address as this span's process sees it."""
    peer_port: int | None
    client_address: str = ""
    """Where a header in the request names another client than the peer."""
    local: tuple[str, int] | None = None
    """This end's address and port."""
    user_agent: str | None = None
    error_type: str = ""
    user_info: str = ""
    """What of it stays in url.full."""
    incomplete: tuple[str, str] = ("", "")
    """otelbpf.request.incomplete and otelbpf.response.incomplete."""
    framing_beyond: bool = False
    """The bytes that frame a body lie beyond what is copied: its size is told, or said to be unknown."""
    earliest_ns: int = 0
    latest_ns: int = 0
    trace_id: str | None = None
    parent_id: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What pairs it with a span: kind, method as a span tells it, path (with its unique id)."""
        return self.kind, known_method(self.method), self.path


def replace(expected: Expected, **fields: Any) -> Expected:
    """The same with other fields."""
    return msgspec.structs.replace(expected, **fields)


def known_method(method: str) -> str:
    """http.request.method: semantic conventions, HTTP spans, 'HTTP request method values'."""
    return method if method in STANDARD_METHODS else "_OTHER"


def key_of(span: SeenSpan) -> tuple[str, str, str]:
    """The same for a span; a CLIENT span tells its path only within url.full."""
    return span.kind, str(span.attributes.get("http.request.method", "")), span.path


def differences(expected: Iterable[Expected], spans: Iterable[SeenSpan]) -> list[str]:
    """Every way in which the spans are not exactly those expected. Of several with one key, times make the pairs."""
    wanted: dict[tuple[str, str, str], list[Expected]] = defaultdict(list)
    seen: dict[tuple[str, str, str], list[SeenSpan]] = defaultdict(list)
    for expectation in expected:
        wanted[expectation.key].append(expectation)
    for span in spans:
        seen[key_of(span)].append(span)
    found: list[str] = []
    for key in sorted(wanted.keys() | seen.keys()):
        want = sorted(wanted[key], key=lambda one: one.earliest_ns)
        have = sorted(seen[key], key=lambda one: one.start_ns)
        label = " ".join(key)
        if len(want) != len(have):
            verdict = "MISSING" if len(have) < len(want) else "TOO MANY" if want else "NOT EXPECTED"
            found.append(f"{verdict} {label}: {len(want)} expected, {len(have)} seen")
            found.extend(f"    seen: {span.summary()}" for span in have[:3])
            continue
        for expectation, span in zip(want, have, strict=True):
            found.extend(f"WRONG {label}: {line}" for line in compare(expectation, span))
    return found


def disorder(spans: Iterable[SeenSpan], *, exact_sends: bool, within: bool) -> list[str]:
    """Where a SERVER span is not the child of the CLIENT span that caused it, or does not lie `within` it.
    `exact_sends`: sends are stamped at entry, so that causes come before their effects without any tolerance."""
    allowed = 0 if exact_sends else LATE_RETURN_NS
    clients = {span.path: span for span in spans if span.kind == "CLIENT"}
    found = []
    for server in spans:
        client = clients.get(server.path)
        if server.kind != "SERVER" or client is None:
            continue
        if (server.trace_id, server.parent_id) != (client.trace_id, client.span_id):
            found.append(f"NOT THE CHILD {server.path}: {server.summary()}")
        early, late = client.start_ns - server.start_ns, server.end_ns - client.end_ns
        if early > allowed:
            found.append(f"OUT OF ORDER {server.path}: the server starts {early} ns before the client")
        # Where the connection itself ended the exchange, each end noticed it in its own time.
        broken = any(not str(one.attributes.get("error.type", "0")).isdigit() for one in (server, client))
        if within and not broken and late > allowed:
            found.append(f"OUT OF ORDER {server.path}: the server ends {late} ns after the client")
    return found


def assert_equal(
    expected: Sequence[Expected],
    spans: Sequence[SeenSpan],
    *,
    linked: bool = True,
    exact_sends: bool = False,
    within: bool = True,
) -> None:
    """Fail with a readable account of the differences, unless there are none. `linked`: where both ends of a request
    have a span, the server's is the client's child, and lies `within` it unless the client went away."""
    assert expected, "the workload did nothing, so this test would prove nothing"
    found = differences(expected, spans)
    if linked:
        found += disorder(spans, exact_sends=exact_sends, within=within)
    if found:
        shown = "\n".join(found[:60])
        raise AssertionError(f"{len(found)} differences, {len(expected)} spans expected, {len(spans)} seen\n{shown}")


def compare(want: Expected, span: SeenSpan) -> list[str]:
    """Every field of `span` that is not what `want` says."""
    have = span.attributes
    request_incomplete = have.get("otelbpf.request.incomplete", "")
    response_incomplete = have.get("otelbpf.response.incomplete", "")
    if want.framing_beyond:
        unknown = "body_size_unknown"
        told = (request_incomplete == unknown, response_incomplete == unknown)
        want = replace(
            want,
            request_size=None if told[0] else want.request_size,
            response_size=None if told[1] else want.response_size,
            incomplete=(unknown if told[0] else "", unknown if told[1] else ""),
        )
        sizes = (have.get("http.request.body.size"), have.get("http.response.body.size"))
        unknown_yet_told = [size for size, unsure in zip(sizes, told, strict=True) if unsure and size is not None]
        if unknown_yet_told:
            return [f"a size said to be unknown is told: {unknown_yet_told}"]
    name = want.method if want.method in STANDARD_METHODS else "HTTP"
    route = have.get("http.route" if want.kind == "SERVER" else "url.template")
    pairs: list[tuple[str, Any, Any]] = [
        ("network.transport", "tcp", have.get("network.transport")),
        ("network.type", "ipv6" if ":" in want.peer_address else "ipv4", have.get("network.type")),
        ("name", " ".join(filter(None, (name, route))), span.name),
        ("http.route or url.template", True, route is None or fits(route, want.path)),
        ("http.request.method", known_method(want.method), have.get("http.request.method")),
        (
            "http.request.method_original",
            None if want.method in STANDARD_METHODS else want.method,
            have.get("http.request.method_original"),
        ),
        ("http.response.status_code", want.status or None, have.get("http.response.status_code")),
        ("network.protocol.version", want.version, have.get("network.protocol.version")),
        ("network.peer.address", want.peer_address, have.get("network.peer.address")),
        ("server.address", want.server_address, have.get("server.address")),
        ("server.port", want.server_port, have.get("server.port")),
        ("error.type", error_type(want), have.get("error.type")),
        ("otelbpf.request.incomplete", want.incomplete[0], request_incomplete),
        ("otelbpf.response.incomplete", want.incomplete[1], response_incomplete),
        ("status.code", "ERROR" if error_type(want) else "UNSET", span.status),
    ]
    if want.request_size is not None:
        pairs.append(("http.request.body.size", want.request_size, have.get("http.request.body.size")))
    if want.response_size is not None:
        pairs.append(("http.response.body.size", want.response_size, have.get("http.response.body.size")))
    if want.kind == "SERVER":
        pairs += [
            ("url.scheme", want.scheme, have.get("url.scheme")),
            ("url.path", want.path or None, have.get("url.path")),
            ("url.query", want.query or None, have.get("url.query")),
            ("client.address", want.client_address or want.peer_address, have.get("client.address")),
        ]
    else:
        pairs.append(("url.full", full_url(want), have.get("url.full")))
    optional: list[tuple[str, Any, Any]] = [
        ("service.name", want.service, span.resource.get("service.name")),
        ("network.peer.port", want.peer_port, have.get("network.peer.port")),
        ("user_agent.original", want.user_agent, have.get("user_agent.original")),
        ("trace_id", want.trace_id, span.trace_id),
        ("parent_id", want.parent_id, span.parent_id),
    ]
    pairs += [pair for pair in optional if pair[1] is not None]
    if want.local is not None:
        pairs.append(("network.local", want.local, (have.get("network.local.address"), have.get("network.local.port"))))
    lines = [f"{name} is {is_!r}, not {must!r}" for name, must, is_ in pairs if must != is_]
    if span.pid not in want.pids:
        lines.append(f"process.pid is {span.pid}, not one of {sorted(want.pids)}")
    return lines + compare_times(want, span)


def fits(route: str, path: str) -> bool:
    """Whether a learned route is one of this path: as many segments, each the same or a placeholder."""
    pairs = list(zip_longest(route.split("/"), path.split("/")))
    return all(part == segment or (segment and part in _PLACEHOLDERS) for part, segment in pairs)


def error_type(want: Expected) -> str | None:
    """A 4xx is an error to the one who asked, a 5xx to both (semantic conventions, HTTP spans, 'Status')."""
    if want.error_type:
        return want.error_type
    return str(want.status) if want.status >= (500 if want.kind == "SERVER" else 400) else None


def full_url(want: Expected) -> str:
    """url.full as the authority and the target of the request make it; CONNECT's has no scheme."""
    host = f"[{want.server_address}]" if ":" in want.server_address else want.server_address
    if want.method == "CONNECT":
        return f"//{host}:{want.server_port}"
    port = "" if want.server_port == 80 else f":{want.server_port}"
    return f"{want.scheme}://{want.user_info}{host}{port}{want.path}" + (f"?{want.query}" if want.query else "")


def compare_times(want: Expected, span: SeenSpan) -> list[str]:
    """The span lies within what the client's clock allows."""
    lines = []
    if span.end_ns < span.start_ns:
        lines.append(f"it ends {span.start_ns - span.end_ns} ns before it starts")
    if span.start_ns < want.earliest_ns - CLOCK_NS:
        lines.append(f"it starts {(want.earliest_ns - span.start_ns) / 1e6:.3f} ms before the client did")
    if want.latest_ns and span.end_ns > want.latest_ns + CLOCK_NS + LATE_RETURN_NS:
        lines.append(f"it ends {(span.end_ns - want.latest_ns) / 1e6:.3f} ms after the client was done")
    return lines
