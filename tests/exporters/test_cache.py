"""The caches are bounded, forget what is not asked for again, and keep what is."""

from __future__ import annotations

from otelbpf.exporters.cache import LONGEST_KEPT, NameCache, PairCache
from otelbpf.tracing.span import AttributeValue


class _Encoder:
    def __init__(self) -> None:
        self.calls: list[AttributeValue] = []

    def pair(self, key: str, value: AttributeValue) -> bytes:
        self.calls.append(value)
        return f"{key}={value}".encode()

    def name(self, name: str) -> bytes:
        self.calls.append(name)
        return name.encode()


def test_a_pair_is_encoded_once() -> None:
    encoder = _Encoder()
    cache = PairCache(encoder.pair, limit=3)

    assert [cache["port", 80], cache["port", 80], cache["port", 81]] == [b"port=80", b"port=80", b"port=81"]
    assert encoder.calls == [80, 81]


def test_the_cache_never_holds_more_than_two_generations() -> None:
    encoder = _Encoder()
    cache = PairCache(encoder.pair, limit=10)

    sizes = []
    for number in range(101):
        cache["n", number]
        sizes.append(len(cache))

    assert max(sizes) == 10
    assert len(encoder.calls) == 101


def test_what_repeats_survives_a_flood() -> None:
    encoder = _Encoder()
    cache = PairCache(encoder.pair, limit=10)
    for number in range(101):
        assert cache["method", "GET"] == b"method=GET"
        cache["n", number]

    assert encoder.calls.count("GET") == 1


def test_long_texts_are_not_kept() -> None:
    encoder = _Encoder()
    cache, names = PairCache(encoder.pair, limit=10), NameCache(encoder.name, limit=10)
    text = "x" * LONGEST_KEPT

    assert cache["k", text] == cache["k", text] == b"k=" + text.encode()
    assert names[text + "y"] == names[text + "y"] == text.encode() + b"y"
    assert (len(cache), len(names), len(encoder.calls)) == (0, 0, 4)


def test_floats_are_not_kept() -> None:
    encoder = _Encoder()
    cache = PairCache(encoder.pair, limit=10)

    assert [cache["zero", 0.0], cache["zero", -0.0]] == [b"zero=0.0", b"zero=-0.0"]


def test_names_are_forgotten_as_a_whole() -> None:
    encoder = _Encoder()
    names = NameCache(encoder.name, limit=3)

    assert [names[name] for name in "abcdab"] == [b"a", b"b", b"c", b"d", b"a", b"b"]
    assert sorted(names) == ["a", "b", "d"]
    assert len(encoder.calls) == 6
