"""Rate, errors and duration: the metrics of requests that the semantic conventions name, from every exchange, sampled
or not.

https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ and …/rpc/rpc-metrics/; the bounds of durations are the
ones advised there. For sizes none are advised: powers of four from 256 bytes to 16 MiB.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from otelbpf.metrics.histogram import Histogram, MakeHistogram
from otelbpf.metrics.options import DEFAULT_METRICS, MetricsOptions
from otelbpf.metrics.points import Family
from otelbpf.metrics.series import Table
from otelbpf.tracing.routes import Route
from otelbpf.tracing.span import AttributeSet

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SIZES: Final = tuple(float(256 * 4**power) for power in range(9))
LONGEST: Final = 256

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


Labels = tuple[tuple[str, str | int], ...]


class Series:
    """The three metrics of requests that are alike; of calls only the first one is told."""

    __slots__ = ("durations", "requests", "responses")

    def __init__(self, histogram: MakeHistogram = Histogram) -> None:
        self.durations = histogram(SECONDS)
        self.requests = histogram(SIZES)
        self.responses = histogram(SIZES)


def base_of(shared: AttributeSet, *, serving: bool, call: bool) -> Labels:
    """Those of a connection's attributes that tell series apart."""
    known = dict(shared.attributes)
    found = []
    for name in _SHARED[call, serving]:
        value = known.get(name)
        # Nothing that is longer is a name of anything.
        if isinstance(value, int) or (isinstance(value, str) and len(value) <= LONGEST):
            found.append((name, value))
    return tuple(found)


class RedMetrics:
    """Finds the series of an exchange."""

    def __init__(self, options: MetricsOptions = DEFAULT_METRICS) -> None:
        make = partial(Series, options.histogram)
        self._tables = {which: Table(make, options.max_series, options.max_of_service) for which in _KINDS}

    def series(
        self,
        service: str,
        base: Labels,
        *,
        serving: bool,
        route: Route | None,
        method: str | None,
        code: str,
        status: int,
        error_type: str,
    ) -> Series:
        """`method` is that of a call, empty where it is not known, None for a request that is no call; `code` the
        status of a call, `status` that of a response."""
        found = list(base)
        if method is None:
            if route is not None:
                found.append(route.server if serving else route.client)
            found += [("http.response.status_code", status)] if status else []
        else:
            found += [("rpc.method", method)] if method and len(method) <= LONGEST else []
            found += [("rpc.response.status_code", code)] if code else []
        found += [("error.type", error_type)] if error_type else []
        return self._tables[method is not None, serving].of(service, tuple(found))

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


def _requests(series: Series) -> Histogram | None:
    return series.requests if any(series.requests.counts) else None


def _responses(series: Series) -> Histogram | None:
    return series.responses if any(series.responses.counts) else None
