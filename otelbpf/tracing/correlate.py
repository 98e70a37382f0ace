"""Joins the two ends of one connection when both are on this host: the server's span becomes the client's child.

Nothing is guessed. The ends find each other by the connection's two initial sequence numbers, which both sockets hold,
crosswise, and which no translation of addresses in between can confuse; a request is found by its stream offset, which
both ends count alike. Whichever span is made first leaves the ids for the other. Of a connection that was open before
the probes only who is at its other end is known, by the addresses, where both are in one network namespace: offsets
have no common origin there, so its spans are not joined. Nor are those of one whose client is not reported, for a
parent that nobody will ever see is worse than none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from otelbpf.connections.connection import Connection
from otelbpf.events.wire import Flag
from otelbpf.tracing.ids import IdGenerator

_CLIENT: Final = int(Flag.CLIENT)
MAX_WAITING: Final = 1024
"""Requests of a connection whose other end's span has not come yet; as many as may be open at once."""


class Ids:
    """The ids both spans of a request share."""

    __slots__ = ("client_span_id", "trace_id")

    def __init__(self, trace_id: bytes, client_span_id: bytes) -> None:
        self.trace_id = trace_id
        self.client_span_id = client_span_id


class Link:
    """Both ends of one connection."""

    __slots__ = ("_ids", "_waiting", "client", "server")

    def __init__(self, ids: IdGenerator, client: Connection, server: Connection) -> None:
        self._ids = ids
        self.client = client
        """The end that connected."""
        self.server = server
        self._waiting: OrderedDict[int, Ids] = OrderedDict()

    def ids_of(self, offset: int) -> Ids:
        """The ids of the request that begins at `offset`: drawn for the first end that asks, kept for the second."""
        found = self._waiting.pop(offset, None)
        if found is None:
            found = Ids(self._ids.trace_id(), self._ids.span_id())
            self._waiting[offset] = found
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
        return found


class Correlator:
    """Finds the other end of a connection. Bounded by the number of connections that are open."""

    def __init__(
        self, ids: IdGenerator, *, reported: Callable[[Connection], bool] | None = None, filtered: bool = True
    ) -> None:
        """`reported` tells whether the requests of a client's socket are exported; all are without it. It is asked of
        each client where some are left out (`filtered`), otherwise of those that use TLS."""
        self._ids = ids
        self._reported = reported
        self._filtered = filtered
        self._alone: dict[tuple[int, int], Connection] = {}
        self._links: dict[bytes, Link] = {}
        self._met: dict[bytes, Connection] = {}
        """Connections that were open before the probes, by their endpoints."""

    def note(self, connection: Connection) -> None:
        """A connection was established: it may be the other end of one already known."""
        numbers = connection.first_sequence
        if numbers is None or connection.joined:
            return
        other = self._alone.pop((numbers[1], numbers[0]), None)
        if other is None:
            self._alone[numbers] = connection
        else:
            client, server = (connection, other) if connection.flags & _CLIENT else (other, connection)
            self._links[connection.key] = self._links[other.key] = Link(self._ids, client, server)

    def meet(self, connection: Connection) -> None:
        """The first bytes of a connection were seen."""
        if connection.joined:
            self._met[connection.endpoints] = connection

    def other_end(self, connection: Connection) -> Connection | None:
        """That of a connection that was open before the probes, where its requests are reported there."""
        ends = connection.endpoints
        mirrored = ends[16:32] + ends[:16] + ends[34:36] + ends[32:34] + ends[36:]
        other = self._met.get(mirrored)
        return other if other is not None and self._is_reported(other) else None

    def link(self, connection: Connection) -> Link | None:
        """The link of this connection, where its other end is known too and its requests are reported there."""
        link = self._links.get(connection.key)
        return link if link is not None and self._is_reported(link.client) else None

    def _is_reported(self, connection: Connection) -> bool:
        if self._reported is None or not (self._filtered or connection.tls is not None):
            return True
        return self._reported(connection)

    def share(self, plain: Connection, carrier: Connection) -> Link | None:
        """Plain text goes over this socket: known from its start, its offsets are the same at both ends too."""
        link = self._links.get(carrier.key)
        if link is not None and not plain.joined:
            self._links[plain.key] = link
            return link
        return None

    def forget(self, connection: Connection) -> None:
        """The connection is over; its other end may still ask by its own key."""
        self._links.pop(connection.key, None)
        if self._met.get(connection.endpoints) is connection:
            del self._met[connection.endpoints]
        numbers = connection.first_sequence
        if numbers is not None and self._alone.get(numbers) is connection:
            del self._alone[numbers]
