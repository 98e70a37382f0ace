"""Rate, errors and duration: the metrics of requests that the semantic conventions name, from every exchange, sampled
or not.

https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ and …/rpc/rpc-metrics/; the bounds of durations are the
ones advised there. For sizes none are advised: powers of four from 256 bytes to 16 MiB.

What tells series apart follows from what an exchange shares with others of its connection, its status and its error, so
a series is looked up by those objects; they are only read where they were not met before.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from otelbpf.exchanges.exchange import Exchange
from otelbpf.metrics.series import Family, Histogram, Table
from otelbpf.tracing.span import AttributeSet, AttributeValue

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SIZES: Final = tuple(float(256 * 4**power) for power in range(9))
MAX_SERIES: Final = 2000
"""Of each metric, over all services."""
MAX_MET: Final = 4096
"""Combinations whose series is remembered; they are looked up anew when there are more."""

_SHARED: Final[dict[tuple[bool, bool], tuple[str, ...]]] = {
    # (whether it is a call, whether this end served): the attributes that are taken
    (False, True): ("http.request.method", "url.scheme", "network.protocol.version"),
    (False, False): (
        "http.request.method",
        "server.address",
        "server.port",
        "url.scheme",
        "network.protocol.version",
    ),
    (True, True): ("rpc.system.name",),
    (True, False): ("rpc.system.name", "server.address", "server.port"),
}
_KINDS: Final = {
    (False, True): "http.server",
    (False, False): "http.client",
    (True, True): "rpc.server",
    (True, False): "rpc.client",
}


class _Series:
    __slots__ = ("durations", "requests", "responses")

    def __init__(self) -> None:
        self.durations = Histogram(SECONDS)
        self.requests = Histogram(SIZES)
        self.responses = Histogram(SIZES)


class RedMetrics:
    """Told of each exchange that is over."""

    def __init__(self, *, max_series: int = MAX_SERIES) -> None:
        self._tables = {which: Table(_Series, max_series) for which in _KINDS}
        self._met: dict[tuple[AttributeSet, str, str, int, str], _Series] = {}

    def record(
        self,
        exchange: Exchange,
        service: str,
        shared: AttributeSet,
        *,
        method: str | None,
        code: str,
        error_type: str,
    ) -> tuple[Histogram, int, float]:
        """Count one. `method` is that of a call, empty where it is not known, None for a request that is no call;
        `code` the status of a call. Returns where its duration went: the histogram, the bucket, the seconds."""
        response = exchange.response
        status = response.status if response is not None else 0
        key = (shared, service, code if method is None else f"{method} {code}", status, error_type)
        series = self._met.get(key)
        if series is None:
            series = self._meet(key, exchange.serving, method, code)
        last_ns = max(exchange.response_last_ns, exchange.request_last_ns)
        seconds = (last_ns - exchange.request_first_ns) / 1e9
        durations = series.durations
        bucket = bisect_left(SECONDS, seconds)
        durations.counts[bucket] += 1
        durations.total += seconds
        if exchange.request.body_size >= 0:
            series.requests.add(exchange.request.body_size)
        if response is not None and response.body_size >= 0:
            series.responses.add(response.body_size)
        return durations, bucket, seconds

    def snapshot(self) -> list[Family]:
        """Every metric as it stands."""
        families = []
        for which, table in self._tables.items():
            call, served = which
            name = _KINDS[which]
            side = "Server" if served else "Client"
            families.append(
                Family(
                    f"{name}.call.duration" if call else f"{name}.request.duration",
                    "histogram",
                    "s",
                    f"Duration of {side.lower()}s' calls." if call else f"Duration of HTTP {side.lower()} requests.",
                    tuple(table.points(lambda series: series.durations)),
                )
            )
            if call:
                continue
            for part, of in (("request", _requests), ("response", _responses)):
                families.append(
                    Family(
                        f"{name}.{part}.body.size",
                        "histogram",
                        "By",
                        f"Size of HTTP {side.lower()} {part} bodies.",
                        tuple(table.points(of)),
                    )
                )
        return families

    def _meet(
        self, key: tuple[AttributeSet, str, str, int, str], serving: bool, method: str | None, code: str
    ) -> _Series:
        shared, service, _, status, error_type = key
        which = (method is not None, serving)
        known = dict(shared.attributes)
        found: list[tuple[str, str | int]] = [(name, _plain(known[name])) for name in _SHARED[which] if name in known]
        if method is None:
            if status:
                found.append(("http.response.status_code", status))
        else:
            found += [("rpc.method", method)] if method else []
            found += [("rpc.response.status_code", code)] if code else []
        if error_type:
            found.append(("error.type", error_type))
        series = self._tables[which].of(service, tuple(found))
        if len(self._met) >= MAX_MET:
            self._met.clear()
        self._met[key] = series
        return series


def _plain(value: AttributeValue) -> str | int:
    return value if isinstance(value, str | int) else str(value)


def _requests(series: _Series) -> Histogram | None:
    return series.requests if any(series.requests.counts) else None


def _responses(series: _Series) -> Histogram | None:
    return series.responses if any(series.responses.counts) else None
