"""What can be chosen about spans."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from otelbpf.tracing.conventions.http import METHODS, NamedHeaders, named_headers
from otelbpf.tracing.redact import SECRET_KEYS
from otelbpf.tracing.routes import MAX_OF_SERVICE
from otelbpf.tracing.sampling import Decide, make_sampler


class SpanOptions(msgspec.Struct, frozen=True):
    """The defaults are the settings'."""

    sample: Decide = make_sampler("parentbased_always_on")
    secret_keys: Sequence[str] = tuple(SECRET_KEYS)
    request_headers: Sequence[str] = ()
    """Lower-case names of headers to report; their secrets stay secret."""
    response_headers: Sequence[str] = ()
    known_methods: Sequence[str] = METHODS
    """Those that are told by their names."""
    route_patterns: Sequence[str] = ()
    learn_routes: bool = True
    max_routes: int = MAX_OF_SERVICE
    """Of each service."""
    resource_extra: Sequence[tuple[str, str]] = ()
    """Attributes that every resource has besides its own."""

    def named_headers(self) -> NamedHeaders:
        """Those asked for by name."""
        return named_headers(self.request_headers, self.response_headers)


DEFAULT_OPTIONS = SpanOptions()
