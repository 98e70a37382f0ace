"""`otelbpf health`: does the collector on this host trace? For health checks where there is no curl."""

from __future__ import annotations

import http.client
from typing import Any, Final

import click

from otelbpf.cli.options import health_options, load_settings
from otelbpf.errors import ExportError

_TIMEOUT_SECONDS: Final = 3.0
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
_REMEDY: Final = "give otelbpf health the --config, --listen and environment of otelbpf run"


@click.command()
@health_options
def health(config_file: str | None, **options: Any) -> int:
    """Ask the collector on this host whether it traces: /readyz at the address where `otelbpf run` serves it.

    Ends with 0 when every probe is attached, with 1 when not, or when nobody answers.

    \b
    otelbpf health
    otelbpf health --listen 127.0.0.1:9000
    """
    address = load_settings(config_file, options).settings.health.listen
    if address == "off":
        raise ExportError("the collector serves no /readyz: health.listen is off", _REMEDY)
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(_EVERY_ADDRESS.get(host, host), int(port), timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        said = response.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise ExportError(f"no collector answers at {address} ({error})", _REMEDY) from None
    finally:
        connection.close()
    click.echo(said)
    return 0 if response.status == http.client.OK else 1
