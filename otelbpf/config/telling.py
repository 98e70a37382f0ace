"""What is said: of the host's traffic, and by the collector of itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from otelbpf.config.forms import (
    ADDRESS,
    HEADER,
    METHOD,
    PAIRS,
    ROUTE,
    SWITCH,
    TEXT,
    WHOLE,
    choice,
    list_of,
    or_auto,
)
from otelbpf.config.source import Source


class Redaction(msgspec.Struct, frozen=True):
    """What leaves the host. Bodies, user info in URLs and headers not named here never do."""

    query_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="Query keys whose values become REDACTED; words of a longer key (access_token) count.",
            max_length=256,
        ),
        Source(list_of(TEXT)),
    ] = (
        "awsaccesskeyid",
        "signature",
        "sig",
        "x-goog-signature",
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "token",
        "secret",
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "apikey",
        "api_key",
        "key",
        "auth",
        "authorization",
        "credential",
        "credentials",
        "session",
        "sessionid",
        "jsessionid",
        "phpsessid",
        "sid",
        "jwt",
        "bearer",
        "code",
        "otp",
        "assertion",
        "ticket",
    )
    request_headers: Annotated[
        tuple[str, ...],
        Meta(description="Request headers reported as http.request.header.NAME; empty: none.", max_length=64),
        Source(list_of(HEADER)),
    ] = ()
    response_headers: Annotated[
        tuple[str, ...],
        Meta(description="Response headers reported as http.response.header.NAME; empty: none.", max_length=64),
        Source(list_of(HEADER)),
    ] = ()


class Conventions(msgspec.Struct, frozen=True):
    """How the semantic conventions are applied, where they leave a choice."""

    known_methods: Annotated[
        tuple[str, ...],
        Meta(description="HTTP methods told by their names; any other is _OTHER.", max_length=64),
        Source(list_of(METHOD), variables=("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",)),
    ] = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")


class Resource(msgspec.Struct, frozen=True):
    """What every span's resource says besides what is read from its process."""

    attributes: Annotated[
        dict[str, str],
        Meta(
            description="Attributes added to every resource; a process's own OTEL_RESOURCE_ATTRIBUTES wins.",
            max_length=64,
        ),
        Source(PAIRS, variables=("OTEL_RESOURCE_ATTRIBUTES",)),
    ] = {}


class Workloads(msgspec.Struct, frozen=True):
    """Who is asked what a container is called."""

    sockets: Annotated[
        tuple[str, ...],
        Meta(
            description="Sockets of engines that speak Docker's API, by their paths on the host; empty: none is asked.",
            max_length=16,
        ),
        Source(list_of(TEXT)),
    ] = ("/run/docker.sock", "/run/podman/podman.sock")
    labels: Annotated[
        tuple[str, ...],
        Meta(description="Labels reported as container.label.NAME, where a container has them.", max_length=64),
        Source(list_of(TEXT)),
    ] = ("com.docker.compose.project", "com.docker.compose.service")
    kubernetes: Annotated[
        str,
        Meta(description="Whether the Kubernetes API is asked; auto: in a pod that has a service account."),
        Source(choice("auto", "off")),
    ] = "auto"
    node: Annotated[
        str | None,
        Meta(description="The Kubernetes node this is, as the API calls it; auto: this host's name."),
        Source(or_auto(TEXT), variables=("K8S_NODE_NAME",)),
    ] = None
    well_known_labels: Annotated[
        bool,
        Meta(description="Whether app.kubernetes.io/instance, name and version make service.name and service.version."),
        Source(SWITCH),
    ] = False


class Routes(msgspec.Struct, frozen=True):
    """What many paths have in common: http.route, url.template, and the names of spans."""

    patterns: Annotated[
        tuple[str, ...],
        Meta(
            description="Routes; the first that matches counts. {name}: one segment, * at the end: the rest.",
            max_length=1024,
        ),
        Source(list_of(ROUTE)),
    ] = ()
    learn: Annotated[
        bool,
        Meta(description="Whether the routes of all other paths are learned from what is asked and answered."),
        Source(SWITCH),
    ] = True
    max_of_service: Annotated[
        int,
        Meta(description="Routes learned of each service; paths beyond have none.", ge=0, le=10_000),
        Source(WHOLE),
    ] = 300


class Health(msgspec.Struct, frozen=True):
    """The collector's own state: /metrics, /healthz, /readyz."""

    listen: Annotated[
        str,
        Meta(description="Where the health server listens, HOST:PORT, or off."),
        Source(ADDRESS, flag="--listen"),
    ] = "127.0.0.1:9464"


class Log(msgspec.Struct, frozen=True):
    """What the collector says about itself, on standard error."""

    level: Annotated[
        str,
        Meta(description="The least important message that is written."),
        Source(choice("debug", "info", "warn", "error"), variables=("OTEL_LOG_LEVEL",)),
    ] = "info"


class Privileges(msgspec.Struct, frozen=True):
    """What the collector keeps of its rights once the probes are attached."""

    drop: Annotated[
        bool,
        Meta(description="Give up every capability that reading the ring and /proc does not need."),
        Source(SWITCH),
    ] = True
