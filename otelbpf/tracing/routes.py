"""Routes: what many paths have in common, for `http.route` and `url.template`.

A route is known by a pattern of the configuration, or learned. A learned one keeps the segments of a path that are
words, and has a placeholder for what is not: `{date}`, `{id}` (numbers, UUIDs, hashes, opaque tokens) by the shape of a
segment alone, and `{value}` where one place was seen to hold ever new words; those that come again and again remain
words there. So a path that has a route keeps it, unless its words turn out to be values, once. A path is learned from
when it was answered as one that exists: what a server calls unknown or forbidden (4xx) has a route only if another
answer made it known.

Nothing here grows with what clients invent: so many routes a service, so many in all; beyond them a path has none.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from otelbpf.tracing.conventions.origin import path_and_query

MAX_OF_SERVICE: Final = 300
MAX_ROUTES: Final = 20_000
"""Of all services."""
MAX_SERVICES: Final = 1000
"""Those asked for longest ago go first, with what they learned."""
MAX_VARIETY: Final = 50
"""Words that one place may hold before it is taken to hold values."""
FAMILIAR: Final = 16
"""A word that came this often by then stays a word."""
MAX_DEPTH: Final = 12
"""Segments of a route; what comes deeper is one `{rest}`."""
MAX_RECENT: Final = 8192
"""Paths whose routes are remembered."""
LONGEST_WORD: Final = 48
LONGEST_LOOKED_AT: Final = 128
"""These patterns take their time with what is long; a hash of SHA-512 still is one."""
LONGEST_RECENT: Final = 256

ID: Final = "{id}"
DATE: Final = "{date}"
VALUE: Final = "{value}"
REST: Final = "{rest}"
# What is escaped, or holds a parameter or an address, is no word, and might be a secret.
_WORD: Final = re.compile("[A-Za-z0-9._~:+-]*")
_DATE: Final = re.compile(r"[12]\d{3}-[01]\d(?:-[0-3]\d)?(?:[T_].*)?")
_ID: Final = re.compile(
    r"""
    [+-]?\d+(?:[.:]\d+)*                             # a number, a version, a time
    | [0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}    # a UUID (RFC 9562)
    | (?:.*[._~:+-])?(?=\D*\d)[0-9a-fA-F]{8,}(?:[._~:+-].*)?    # a hash, or a name with one: app.3f2a9c1b.js
    | [0-9a-fA-F]{16,}
    | (?:.*[._~:+-])?\d{4,}(?:[._~:+-].*)?           # order-4711, 2026.pdf
    | .*\d{5,}.*                                     # u10023
    | (?=(?:.*\d){3})(?=.*[A-Za-z])[\w-]{20,}        # an opaque token
    """,
    re.VERBOSE,
)
_PLACEHOLDER: Final = re.compile(r"\{[^{}/]+\}")


class Route:
    """One route, as spans name it."""

    __slots__ = ("_names", "client", "hits", "server", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.server = ("http.route", text)
        self.client = ("url.template", text)
        self.hits = 0
        self._names: dict[str, str] = {}

    def name(self, method: str) -> str:
        """The name of a request's span; `method` is one of a few."""
        name = self._names.get(method)
        if name is None:
            name = self._names[method] = f"{method} {self.text}"
        return name


class _Node:
    """A place in paths, and what may stand behind it."""

    __slots__ = ("children", "route", "varied")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.varied = False
        """It holds values, besides the words that were familiar then."""
        self.route: Route | None = None


class Routes:
    """Finds the routes of all services."""

    def __init__(
        self,
        patterns: Iterable[str] = (),
        *,
        learn: bool = True,
        max_of_service: int = MAX_OF_SERVICE,
        max_routes: int = MAX_ROUTES,
    ) -> None:
        """`patterns` are tried first, in their order; see `compile_pattern`."""
        self.learn = learn
        self.max_of_service = max_of_service
        self.free = max_routes
        """How many more may be learned."""
        self._recent = 0
        self._configured = [(compile_pattern(pattern), Route(pattern)) for pattern in patterns]
        self._trees: OrderedDict[str, Tree] = OrderedDict()

    def tree(self, service: str) -> Tree:
        """The routes of a service."""
        tree = self._trees.get(service)
        if tree is not None:
            self._trees.move_to_end(service)
            return tree
        tree = self._trees[service] = Tree(self)
        if len(self._trees) > MAX_SERVICES:
            _, gone = self._trees.popitem(last=False)
            gone.retire()
        return tree

    def remember(self) -> None:
        """A tree keeps one path more."""
        self._recent += 1
        if self._recent > MAX_RECENT:
            self._recent = 0
            for tree in self._trees.values():
                tree.forget()

    def configured(self, path: str) -> Route | None:
        """The first pattern that a path matches."""
        for pattern, route in self._configured:
            if pattern.fullmatch(path):
                return route
        return None


class Tree:
    """The routes of one service."""

    __slots__ = ("_known", "_owner", "_recent", "_retired", "_root")

    def __init__(self, owner: Routes) -> None:
        self._owner = owner
        self._retired = False
        self._root = _Node()
        self._known: dict[str, Route] = {}
        """Every route given so far, by its text."""
        self._recent: dict[str, Route] = {}

    def find(self, target: str, status: int) -> Route | None:
        """The route of a request's target; `status` is that of its answer, 0 where there was none."""
        if target[:1] == "/" and "#" not in target:
            path = target.partition("?")[0]
        else:
            path = path_and_query(target)[0]
            if path[:1] != "/":
                return None
        route = self._recent.get(path)
        if route is None:
            owner = self._owner
            route = owner.configured(path)
            if route is None and owner.learn:
                route = self._walk(path, learn=100 <= status < 400 or status >= 500)
            if route is None:
                return None
            if len(path) <= LONGEST_RECENT and not self._retired:
                owner.remember()
                self._recent[path] = route
        route.hits += 1
        return route

    def forget(self) -> None:
        """Which path had which route; what was learned stays."""
        self._recent.clear()

    def retire(self) -> None:
        """The service was not asked for in a long time. Whoever still has this goes on with what is known."""
        self._owner.free += len(self._known)
        self._retired = True
        self._recent.clear()

    def _walk(self, path: str, *, learn: bool) -> Route | None:
        segments = path.split("/", MAX_DEPTH + 1)[1:]
        if len(segments) > MAX_DEPTH:
            segments[MAX_DEPTH] = REST
        node = self._root
        for segment in segments:
            children = node.children
            child = children.get(segment)
            if child is None:
                child = children.get(_shape(segment) or (VALUE if node.varied else segment))
                if child is None:
                    break
            node = child
        else:
            if node.route is not None:
                return node.route
        return self._learn(segments) if learn and not self._is_full() else None

    def _learn(self, segments: Sequence[str]) -> Route:
        node, names = self._root, []
        for segment in segments:
            name = segment
            child = node.children.get(segment)
            if child is None and segment != REST:
                name = _shape(segment) or segment
                if name == segment and (node.varied or self._is_too_much(node)):
                    name = VALUE
                child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node()
            node = child
            names.append(name)
        text = "/" + "/".join(names)
        route = self._known.get(text)
        if route is None:
            route = self._known[text] = Route(text)
            self._owner.free -= 1
        node.route = route
        return route

    def _is_full(self) -> bool:
        owner = self._owner
        return self._retired or len(self._known) >= owner.max_of_service or owner.free <= 0

    def _is_too_much(self, node: _Node) -> bool:
        """Whether one word more shows that this place holds values: then it does from now on, and what was learned
        behind them is learned anew."""
        words = [name for name in node.children if name[:1] != "{"]
        if len(words) < MAX_VARIETY:
            return False
        node.varied = True
        for name in words:
            if _hits(node.children[name]) < FAMILIAR:
                del node.children[name]
        self._recent.clear()
        return True


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`/users/{id}/orders`: each `{name}` stands for one segment; `*` at the end for all that follows."""
    body, rest = (pattern[:-1], ".*") if pattern.endswith("*") else (pattern, "")
    parts = ("[^/]+" if _PLACEHOLDER.fullmatch(part) else re.escape(part) for part in body.split("/"))
    return re.compile("/".join(parts) + rest, re.DOTALL)


def _shape(segment: str) -> str:
    """The placeholder that a segment needs by itself; empty for a word."""
    if segment.isdigit() and segment.isascii():
        return ID
    if len(segment) > LONGEST_LOOKED_AT or not _WORD.fullmatch(segment):
        return VALUE
    if _DATE.fullmatch(segment):
        return DATE
    if _ID.fullmatch(segment):
        return ID
    return VALUE if len(segment) > LONGEST_WORD else ""


def _hits(node: _Node) -> int:
    own = node.route.hits if node.route is not None else 0
    return own + sum(_hits(child) for child in node.children.values())
