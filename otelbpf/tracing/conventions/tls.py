"""The attributes of TLS (https://opentelemetry.io/docs/specs/semconv/registry/attributes/tls/), and ours: how it is
known to whom the application spoke.
"""

from __future__ import annotations

from otelbpf.connections.connection import Connection
from otelbpf.tls.ends import PlainEnd
from otelbpf.tls.handshake import Negotiated
from otelbpf.tracing.span import AttributeValue


def describe(connection: Connection) -> tuple[tuple[str, AttributeValue], ...]:
    """What a connection's spans say of TLS; nothing where there is none."""
    end = connection.tls
    if not isinstance(end, PlainEnd):
        return ()
    negotiated = end.handshake.negotiated if end.handshake is not None else Negotiated()
    told = (
        ("tls.protocol.name", negotiated.name),
        ("tls.protocol.version", negotiated.version),
        ("tls.cipher", negotiated.cipher),
        ("tls.client.server_name", negotiated.server_name),
        ("tls.next_protocol", negotiated.protocol),
        ("tls.resumed", negotiated.resumed),
    )
    known = ((name, value) for name, value in told if value is not None and value != "")
    return (("otelbpf.tls.evidence", end.evidence.value), *known)
