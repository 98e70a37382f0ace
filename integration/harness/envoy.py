"""A real Envoy that passes streams of HTTP/2 on as such; whoever asks may have to do it inside TLS."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

from integration.harness.processes import Running, free_port, wait_for, wait_until_serving
from integration.harness.secured import Certificate
from integration.harness.servers import Server

_TYPES = "type.googleapis.com/envoy.extensions"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PEER = "- %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT% %RESP(X-PEER)%"
"""As the other proxies tell it: whom Envoy answers, and what the upstream said of whom it answered."""


def start(folder: Path, upstream: Server, *, identity: Certificate | None = None, web: bool = False) -> Server:
    """Start it in front of `upstream`, and wait until it answers. With an `identity` it speaks TLS; for the `web` it
    takes HTTP/1 too, and makes gRPC of gRPC-Web."""
    port = free_port()
    home = folder / "envoy"
    home.mkdir()
    path = home / "envoy.json"
    path.write_text(json.dumps(_configuration(port, upstream.port, identity, web)))
    command: list[str | Path] = [Path(sys.executable).with_name("envoy"), "-c", path, "--concurrency", "2"]
    command += ["--log-level", "error", "--use-dynamic-base-id"]
    running = Running(command, folder=home, name="envoy", environment={"OTEL_SERVICE_NAME": "test-envoy"})
    if identity is None:
        wait_until_serving(running, port, ["127.0.0.1"], http2=True)
    else:
        wait_for("Envoy to listen", lambda: _accepts(port), otherwise=running.output)
    return Server(name="envoy", port=port, service="test-envoy", running=running, reads_query=True)


def _configuration(port: int, upstream: int, identity: Certificate | None, web: bool) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "codec_type": "AUTO" if web else "HTTP2",
        "generate_request_id": False,
        "route_config": {
            "response_headers_to_add": [
                {"header": {"key": "x-peer", "value": _PEER}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "60s"}}],
                }
            ],
        },
        "http_filters": [
            *(
                [{"name": "web", "typed_config": {"@type": f"{_TYPES}.filters.http.grpc_web.v3.GrpcWeb"}}]
                if web
                else []
            ),
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    options = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if identity is not None:
        chain["transport_socket"] = {"name": "tls", "typed_config": _tls(identity)}
    return {
        "static_resources": {
            "listeners": [{"address": _address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {_OPTIONS: options},
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
                    },
                }
            ],
        }
    }


def _tls(identity: Certificate) -> dict[str, Any]:
    files = {"certificate_chain": {"filename": str(identity.file)}, "private_key": {"filename": str(identity.key)}}
    return {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [files]},
    }


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
