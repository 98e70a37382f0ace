"""What the same spans cost when a sidecar makes them: Envoy with its OpenTelemetry tracer, before the same nginx."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import machine
from benchmarks.harness import Bench, Run, accounts, traced, untraced
from benchmarks.load import wrk, wrk_command
from benchmarks.programs import envoy
from benchmarks.report import Figure, Result, figure
from benchmarks.servers import Nginx
from benchmarks.sink import Sink
from integration.harness.processes import Running, free_port, wait_until_serving

CONNECTIONS = 32
FLUSH_SECONDS = 6
"""Envoy sends what it has at least every five seconds (tracing.opentelemetry.flush_interval_ms)."""
DIRECT, PROXY, TRACING, OURS = "direct", "Envoy", "Envoy, tracing", "otelbpf"


class Proxied(msgspec.Struct, frozen=True, kw_only=True):
    """One load through Envoy."""

    per_second: float
    envoy_us: float
    """Processor time of Envoy per request."""
    made: int
    spans: int


def measure(bench: Bench) -> Result:
    """nginx alone, behind Envoy, behind an Envoy that traces, and traced by otelbpf, in turns."""
    seconds = bench.seconds(5)
    with Sink(bench.folder) as sink, Nginx(bench.folder) as nginx:

        def proxied(tracing: bool) -> Proxied:
            return _proxied(bench.folder, nginx, sink, tracing=tracing, seconds=seconds)

        proxies: dict[str, list[Proxied]] = {PROXY: [], TRACING: []}
        runs: dict[str, list[Run]] = {DIRECT: [], OURS: []}
        for index in range(bench.rounds(3)):
            bench.say(f"round {index + 1}")
            load = wrk(nginx.url, connections=CONNECTIONS, seconds=seconds)
            runs[DIRECT].append(untraced(nginx, load))
            proxies[PROXY].append(proxied(False))
            proxies[TRACING].append(proxied(True))
            load = wrk(nginx.url, connections=CONNECTIONS, seconds=seconds)
            runs[OURS].append(traced(bench, nginx, load, sink=sink))
    rates = {name: [run.load.per_second for run in several] for name, several in runs.items()} | {
        name: [run.per_second for run in several] for name, several in proxies.items()
    }
    figures = []
    for name in (DIRECT, PROXY, TRACING, OURS):
        figures.append(figure(f"{name}: requests a second", "1/s", rates[name]))
        if name != DIRECT:
            kept = [100 * b / a for a, b in zip(rates[DIRECT], rates[name], strict=True)]
            figures.append(figure(f"{name}: kept", "%", kept))
        if name in proxies:
            figures += _costs(name, proxies[name], tracing=name == TRACING)
    figures.append(figure(f"{OURS}: collector", "us/span", [run.collector_us for run in runs[OURS]]))
    return Result(
        name="sidecar",
        question="what does a traced sidecar keep of the same nginx's throughput?",
        commands=[
            " ".join(wrk_command("http://127.0.0.1:PORT/", connections=CONNECTIONS, seconds=seconds)),
            "envoy -c envoy.json --concurrency 1      (http_connection_manager, every request traced, OTLP/HTTP)",
            "otelbpf run --export otlp --pid NGINX --pid WORKER",
        ],
        figures=figures,
        accounts=accounts(runs),
    )


def _costs(name: str, runs: list[Proxied], *, tracing: bool) -> list[Figure]:
    found = [figure(f"{name}: Envoy", "us/request", [run.envoy_us for run in runs])]
    if tracing:
        whole = [100 * run.spans / run.made for run in runs]
        found.append(figure(f"{name}: requests that became spans", "%", whole))
    return found


def _proxied(folder: Path, nginx: Nginx, sink: Sink, *, tracing: bool, seconds: float) -> Proxied:
    port = free_port()
    path = folder / "envoy.json"
    path.write_text(json.dumps(_configuration(port, nginx.port, sink.port, tracing=tracing)))
    command: list[str | Path] = [
        envoy(),
        "-c",
        path,
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--use-dynamic-base-id",
    ]
    arrived = sink.counts()
    with Running(command, folder=folder, name="envoy") as running:
        wait_until_serving(running, port, ["127.0.0.1"])
        spent = machine.cpu_seconds([running.pid])
        with wrk(f"http://127.0.0.1:{port}/", connections=CONNECTIONS, seconds=seconds) as send:
            done = send()
        spent = machine.cpu_seconds([running.pid]) - spent
        if tracing:
            time.sleep(FLUSH_SECONDS)
    return Proxied(
        per_second=done.per_second,
        envoy_us=spent * 1e6 / done.requests,
        made=done.requests,
        spans=(sink.counts() - arrived).spans,
    )


def _configuration(port: int, upstream: int, backend: int, *, tracing: bool) -> dict[str, Any]:
    """An Envoy that passes everything on, over kept connections, and traces every request where it traces."""
    manager: dict[str, Any] = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "nginx"}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    if tracing:
        exporter = {"http_uri": {"uri": f"http://127.0.0.1:{backend}/v1/traces", "cluster": "sink", "timeout": "5s"}}
        manager["tracing"] = {
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "http_service": exporter,
                    "service_name": "bench",
                },
            }
        }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [_cluster("nginx", upstream), _cluster("sink", backend)],
        }
    }


_TYPES = "type.googleapis.com/envoy.extensions"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}}
