"""What a process's environment says of its resource, as an OpenTelemetry SDK in it would read it.

https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

MAX_ATTRIBUTES: Final = 64


def environment_attributes(environment: Mapping[str, str]) -> dict[str, str]:
    """Attributes of OTEL_RESOURCE_ATTRIBUTES; OTEL_SERVICE_NAME wins over a service.name among them. A pair that is
    none is passed over."""
    attributes: dict[str, str] = {}
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip() and len(attributes) < MAX_ATTRIBUTES:
            attributes[key.strip()] = unquote(value.strip())
    if name := environment.get("OTEL_SERVICE_NAME", ""):
        attributes["service.name"] = name
    return attributes
