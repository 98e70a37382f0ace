"""Routes: what becomes a placeholder, what stays a word, and that nothing grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelbpf.tracing.options import SpanOptions
from otelbpf.tracing.routes import FAMILIAR, MAX_DEPTH, MAX_RECENT, MAX_SERVICES, MAX_VARIETY, Routes, Tree
from tests.fake_kernel import FakeKernel
from tests.metrics.reading import values

OK = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n"


def found(tree: Tree, target: str, status: int = 200) -> str | None:
    route = tree.find(target, status)
    return None if route is None else route.text


@pytest.fixture
def tree() -> Tree:
    return Routes().tree("shop")


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/", "/"),
        ("/users", "/users"),
        ("/users/", "/users/"),
        ("/users/42", "/users/{id}"),
        ("/users/-1", "/users/{id}"),
        ("/users/42/orders/7", "/users/{id}/orders/{id}"),
        ("/users/42?page=3&token=s", "/users/{id}"),
        ("/users#top", "/users"),
        ("http://shop.example:80/users/42?x", "/users/{id}"),
        ("http://shop.example", "/"),
        ("/v1/items", "/v1/items"),
        ("/api/v2beta1/items", "/api/v2beta1/items"),
        ("/items/7d444840-9dc0-11d1-b245-5ffdce74fad2", "/items/{id}"),
        ("/items/7D444840-9DC0-11D1-B245-5FFDCE74FAD2", "/items/{id}"),
        ("/commit/3f2a9c1b", "/commit/{id}"),
        ("/commit/da39a3ee5e6b4b0d3255bfef95601890afd80709", "/commit/{id}"),
        ("/blob/" + "0123456789abcdef" * 4, "/blob/{id}"),
        ("/blob/" + "0123456789abcdef" * 8, "/blob/{id}"),
        ("/blob/" + "ab" * 500, "/blob/{value}"),
        ("/assets/app.3f2a9c1b.js", "/assets/{id}"),
        ("/jobs/3f2a9c1b-0/log", "/jobs/{id}/log"),
        ("/feedface/cafe", "/feedface/cafe"),
        ("/orders/order-4711", "/orders/{id}"),
        ("/u10023", "/{id}"),
        ("/session/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/session/{id}"),
        ("/days/2026-11-26", "/days/{date}"),
        ("/days/2026-11", "/days/{date}"),
        ("/days/2026-11-26T10:00:00Z", "/days/{date}"),
        ("/mail/someone@example.com", "/mail/{value}"),
        ("/tag/caf%C3%A9", "/tag/{value}"),
        ("/cart;jsessionid=8f14e45fceea167a", "/{value}"),
        ("/static/jquery-3.6.0.min.js", "/static/jquery-3.6.0.min.js"),
        ("/sha256/utf-8/x509", "/sha256/utf-8/x509"),
        ("/shelves/main:archive", "/shelves/main:archive"),
        ("/{id}", "/{value}"),
        ("//a", "//a"),
        ("/" + "/".join("abcdefghijklmnop"), "/a/b/c/d/e/f/g/h/i/j/k/l/{rest}"),
    ],
)
def test_the_shape_of_a_segment_decides(tree: Tree, target: str, route: str) -> None:
    assert found(tree, target) == route


@pytest.mark.parametrize("target", ["*", "shop.example:443", "", "?a=b"])
def test_what_has_no_path_has_no_route(tree: Tree, target: str) -> None:
    assert found(tree, target) is None


@pytest.mark.parametrize("status", [0, 400, 401, 403, 404, 405, 410, 429])
def test_what_a_server_does_not_know_teaches_nothing(tree: Tree, status: int) -> None:
    """And has a route only if another answer made it known."""
    assert found(tree, "/users/1", status) is None
    assert found(tree, "/users/2", 200) == "/users/{id}"
    assert found(tree, "/users/3", status) == "/users/{id}"
    assert found(tree, "/users", status) is None
    assert found(tree, "/wp-login.php", status) is None


@pytest.mark.parametrize("status", [101, 204, 302, 304, 500, 502, 503])
def test_every_other_answer_does(tree: Tree, status: int) -> None:
    assert found(tree, "/users/1", status) == "/users/{id}"


def test_a_place_of_ever_new_words_holds_values(tree: Tree) -> None:
    """From then on, for all of them, and so do the places behind it; what was familiar stays a word."""
    for _ in range(FAMILIAR):
        assert found(tree, "/blog/feed/today") == "/blog/feed/today"
    words = [f"post-{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(MAX_VARIETY + 20)]
    given_first = [found(tree, f"/blog/{word}/comments") for word in words]

    learned = MAX_VARIETY - 1
    assert given_first[:learned] == [f"/blog/{word}/comments" for word in words[:learned]]
    assert set(given_first[learned:]) == {"/blog/{value}/comments"}
    assert {found(tree, f"/blog/{word}/comments") for word in words} == {"/blog/{value}/comments"}
    assert found(tree, "/blog/feed/today") == "/blog/feed/today"
    assert found(tree, "/blog/2026-11-26/comments") == "/blog/{date}/comments"
    assert found(tree, "/blog") == "/blog"


def test_many_words_that_come_again_stay_words(tree: Tree) -> None:
    paths = [f"/api/resource-{chr(97 + number // 10)}{chr(97 + number % 10)}" for number in range(MAX_VARIETY)]
    for _ in range(FAMILIAR):
        for path in paths:
            assert found(tree, path) == path
    assert found(tree, "/api/another") == "/api/{value}"
    assert [found(tree, path) for path in paths] == paths


def test_configured_patterns_come_first_in_their_order() -> None:
    tree = Routes(["/users/{user}/orders", "/users/me", "/static/*", "/users/{user}"]).tree("shop")
    assert found(tree, "/users/17/orders") == "/users/{user}/orders"
    assert found(tree, "/users/me") == "/users/me"
    assert found(tree, "/users/17", 404) == "/users/{user}"
    assert found(tree, "/static/css/site.css?v=1") == "/static/*"
    assert found(tree, "/static/") == "/static/*"
    assert found(tree, "/static") == "/static"
    assert found(tree, "/users/17/orders/3") == "/users/{id}/orders/{id}"
    assert found(tree, "/users.me") == "/users.me"


def test_without_learning_only_patterns_count() -> None:
    tree = Routes(["/users/{user}"], learn=False).tree("shop")
    assert (found(tree, "/users/17"), found(tree, "/other")) == ("/users/{user}", None)


def test_services_learn_by_themselves() -> None:
    routes = Routes()
    assert found(routes.tree("shop"), "/a") == "/a"
    assert found(routes.tree("stock"), "/a", 404) is None
    assert found(routes.tree("shop"), "/a", 404) == "/a"


def test_a_service_has_no_more_routes_than_it_may(tree: Tree) -> None:
    routes = Routes(max_of_service=10)
    tree = routes.tree("shop")
    given = {found(tree, f"/{a}/{b}/{c}") for a in "abcdefgh" for b in "abcdefgh" for c in "abcdefgh"}
    assert len(given) == 11
    assert None in given
    assert found(tree, "/a/a/a") == "/a/a/a"
    assert found(routes.tree("stock"), "/b/b") == "/b/b"


def test_all_together_have_no_more_than_they_may() -> None:
    routes = Routes(max_routes=5)
    given = [found(routes.tree(f"service{number}"), "/a") for number in range(10)]
    assert given == ["/a"] * 5 + [None] * 5


def test_services_that_are_not_asked_for_make_room() -> None:
    routes = Routes(max_routes=MAX_SERVICES)
    first = routes.tree("service0")
    for number in range(MAX_SERVICES):
        assert found(routes.tree(f"service{number}"), "/a") == "/a"
    assert found(routes.tree("one more"), "/a") == "/a"
    # Whoever still speaks to the one that went finds what it knew.
    assert (found(first, "/a"), found(first, "/b")) == ("/a", None)
    assert found(routes.tree("service0"), "/b") == "/b"


def test_a_million_paths_leave_little_behind() -> None:
    """Whatever a client invents, and whatever the server says of it."""
    routes = Routes()
    tree = routes.tree("shop")
    given = set()
    for number in range(1_000_000 // 20):
        word = "".join(chr(97 + int(digit)) for digit in str(number))
        for form in ("/{}", "/{}/x", "/x/{}", "/{}.{}", "/a/b/{}/c"):
            given.add(found(tree, form.format(word, word)))
    assert len(given - {None}) <= 300
    assert routes.free >= 20_000 - 300
    assert sum(len(each._recent) for each in routes._trees.values()) <= MAX_RECENT


@given(st.lists(st.text(alphabet="ab1/-%{}.é", max_size=30), max_size=45))
def test_a_path_keeps_its_route_unless_its_words_turn_out_to_be_values(paths: list[str]) -> None:
    tree = Routes().tree("shop")
    first = {path: found(tree, "/" + path) for path in paths}
    assert {path: found(tree, "/" + path) for path in paths} == first
    for route in first.values():
        assert route is not None
        assert route.count("/") <= MAX_DEPTH + 1


def test_both_ends_tell_the_same_and_metrics_too() -> None:
    """http.route of the server, url.template of the client; the name of the span is made of it."""
    kernel = FakeKernel()
    kernel.process(100, "/bin/stock")
    kernel.process(200, "/bin/shop")
    client, server = kernel.pair()
    for number in (1, 2, 3):
        client.send(b"GET /items/%d?x=1 HTTP/1.1\r\nHost: h\r\n\r\n" % number)
        server.receive(b"GET /items/%d?x=1 HTTP/1.1\r\nHost: h\r\n\r\n" % number).send(OK % 200)
        client.receive(OK % 200)

    spans = kernel.spans()
    assert [span.name for span in spans] == ["GET /items/{id}"] * 6
    told = [dict(span.attributes) for span in spans]
    assert [(each.get("http.route"), each.get("url.template")) for each in told] == [
        ("/items/{id}", None),
        (None, "/items/{id}"),
    ] * 3
    families = kernel.pipeline.measures.snapshot()
    for name, attribute in (
        ("http.server.request.duration", "http.route"),
        ("http.client.request.duration", "url.template"),
    ):
        ((_, attributes),) = values(families, name)
        assert dict(attributes)[attribute] == "/items/{id}"


def test_a_method_nobody_knows() -> None:
    kernel = FakeKernel()
    kernel.accept().receive(b"BREW /pots/1 HTTP/1.1\r\nHost: h\r\n\r\n").send(OK % 418)
    kernel.accept().receive(b"BREW /pots/1 HTTP/1.1\r\nHost: h\r\n\r\n").send(OK % 200)
    kernel.accept().receive(b"BREW /pots/2 HTTP/1.1\r\nHost: h\r\n\r\n").send(OK % 418)
    assert [span.name for span in kernel.spans()] == ["HTTP", "HTTP /pots/{id}", "HTTP /pots/{id}"]


def test_it_can_be_switched_off() -> None:
    kernel = FakeKernel(options=SpanOptions(learn_routes=False))
    kernel.accept().receive(b"GET /items/1 HTTP/1.1\r\nHost: h\r\n\r\n").send(OK % 200)
    (span,) = kernel.spans()
    assert (span.name, "http.route" in dict(span.attributes)) == ("GET", False)
