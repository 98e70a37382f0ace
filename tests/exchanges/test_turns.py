"""Clients that pipeline, in calls of their own, where records are lost: whatever is lost, no answer is another's."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from otelbpf.exchanges.pairing import SILENCE_NS, TURNS
from otelbpf.telemetry.ledger import Lost
from tests.fake_kernel import FakeKernel, FakeSocket, attributes

GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b"
ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b"
FIRST_STATUS = 400
"""The n-th answer has this status and n more: all of them have a body."""
MOST = 14
CONVERSATIONS = 700


class Plan(msgspec.Struct, frozen=True):
    """How a client goes about it."""

    serving: bool
    requests: int
    turns: int
    """Requests it begins with, waiting for each answer."""
    depth: int
    """Requests it may have open afterwards."""
    burst: bool
    """It sends so many at once, and reads all answers before the next ones; otherwise it goes on as answers come."""
    eager: float
    """How likely it fills up before it reads."""
    loss: float
    split: bool

    @classmethod
    def draw(cls, rng: random.Random, *, turns: int, lossy: bool) -> Plan:
        return cls(
            serving=rng.random() < 0.5,
            requests=rng.randint(2, MOST),
            turns=turns,
            depth=rng.randint(2, 4),
            burst=rng.random() < 0.3,
            eager=1.0 if lossy else 0.5,
            loss=rng.choice([0.05, 0.1, 0.2, 0.4]) if lossy else 0.0,
            split=rng.random() < 0.3,
        )


class Talk:
    """Holds a conversation by its plan."""

    def __init__(self, kernel: FakeKernel, plan: Plan, rng: random.Random) -> None:
        self._kernel = kernel
        self._plan = plan
        self._rng = rng
        self.socket = kernel.accept() if plan.serving else kernel.connect()
        self._asked = self._answered = 0
        self._last_asked = False

    def hold(self) -> None:
        while self._answered < self._plan.requests:
            if self._asks():
                self._ask()
            else:
                self._answer()
            if self._rng.random() < 0.05:
                # Nobody lets a client wait that long for what it has asked.
                longest = SILENCE_NS // 3 if self._asked > self._answered else 2 * SILENCE_NS
                self._kernel.wait(self._rng.randint(1, longest))

    def _asks(self) -> bool:
        plan = self._plan
        open_now = self._asked - self._answered
        depth = 1 if self._asked <= plan.turns else plan.depth
        if not open_now:
            return True
        if self._asked == plan.requests or open_now >= depth or self._rng.random() >= plan.eager:
            return False
        return not plan.burst or self._last_asked

    def _ask(self) -> None:
        body = b"b" * self._rng.choice([0, 0, 1, 200])
        request = POST % (self._asked, len(body), body) if body else GET % self._asked
        self._put(self.socket.receive if self._plan.serving else self.socket.send, request)
        self._asked += 1
        self._last_asked = True

    def _answer(self) -> None:
        body = b"x" * self._rng.randint(0, 50)
        answer = ANSWER % (FIRST_STATUS + self._answered, len(body), body)
        self._put(self.socket.send if self._plan.serving else self.socket.receive, answer)
        self._answered += 1
        self._last_asked = False

    def _put(self, act: Callable[..., FakeSocket], data: bytes) -> None:
        at = self._rng.randint(1, len(data) - 1) if self._plan.split else len(data)
        for part in (data[:at], data[at:]):
            if part:
                act(part, lose=self._rng.random() < self._plan.loss)


def paired(kernel: FakeKernel) -> list[tuple[int, int]]:
    """The number of each request and of the answer it was given; those without one are left out."""
    found = [attributes(span) for span in kernel.spans()]
    return [
        (int(str(f.get("url.path", f.get("url.full"))).rsplit("/", 1)[1]), int(str(status)) - FIRST_STATUS)
        for f in found
        if (status := f.get("http.response.status_code")) is not None
    ]


def talk(seed: int, *, turns: int, lossy: bool) -> tuple[Plan, list[tuple[int, int]]]:
    rng = random.Random(seed)
    plan = Plan.draw(rng, turns=turns, lossy=lossy)
    kernel = FakeKernel()
    conversation = Talk(kernel, plan, rng)
    conversation.hold()
    if rng.random() < 0.7:
        conversation.socket.close()
    ledger = kernel.finish()
    assert ledger.requests_balance() == 0
    assert ledger.bytes_balance() == 0
    return plan, paired(kernel)


@pytest.mark.parametrize("turns", [0, 1, 2, MOST])
def test_no_loss_pairs_an_answer_with_a_request_of_others(turns: int) -> None:
    """It pipelines from the start, once it knows that the connection stays, or never."""
    for seed in range(CONVERSATIONS):
        plan, pairs = talk(seed, turns=turns, lossy=True)
        assert [pair for pair in pairs if pair[0] != pair[1]] == [], f"seed {seed}: {plan}"


def test_without_loss_every_request_has_its_answer() -> None:
    """However the client goes about it."""
    for seed in range(CONVERSATIONS):
        plan, pairs = talk(seed, turns=seed % 4, lossy=False)
        assert pairs == [(number, number) for number in range(plan.requests)], f"seed {seed}: {plan}"


def turn_by_turn(kernel: FakeKernel, numbers: range) -> FakeSocket:
    socket = kernel.accept()
    for number in numbers:
        socket.receive(GET % number).send(ANSWER % (FIRST_STATUS + number, 0, b""))
    return socket


def test_a_client_that_takes_turns_loses_only_what_was_lost() -> None:
    """A request's record, then an answer's; with the answer goes the request that it overlaps with."""
    kernel = FakeKernel()
    socket = turn_by_turn(kernel, range(TURNS))
    for number in range(TURNS, 14):
        socket.receive(GET % number, lose=number == 5).send(ANSWER % (FIRST_STATUS + number, 0, b""), lose=number == 8)
    socket.close()

    assert paired(kernel) == [(number, number) for number in range(14) if number not in (5, 8, 9)]
    assert kernel.ledger.spans_lost == {Lost.GAP_IN_HEAD: 2}


def test_a_client_that_has_not_shown_how_it_asks_is_believed_again_after_a_silence() -> None:
    """The first request is lost: others may have been with it."""
    kernel = FakeKernel()
    socket = kernel.accept().receive(GET % 0, lose=True).send(ANSWER % (400, 0, b""))
    socket.receive(GET % 1).send(ANSWER % (401, 0, b""))
    kernel.wait(SILENCE_NS)
    socket.receive(GET % 2).send(ANSWER % (402, 0, b""))
    socket.receive(GET % 3).send(ANSWER % (403, 0, b"")).close()

    assert paired(kernel) == [(2, 2), (3, 3)]
    assert kernel.ledger.spans_lost == {Lost.JOINED_MIDWAY: 1}


def test_a_pair_met_midway_is_dropped_when_a_second_answer_comes() -> None:
    """Its answer was that of a request before the first one seen."""
    kernel = FakeKernel()
    socket = kernel.accept(joined=True).receive(GET % 1)
    socket.send(ANSWER % (400, 0, b"")).send(ANSWER % (401, 0, b""))
    kernel.wait(2 * SILENCE_NS)
    socket.receive(GET % 2).send(ANSWER % (402, 0, b"")).close()

    assert paired(kernel) == [(2, 2)]
    assert kernel.ledger.spans_lost == {Lost.JOINED_MIDWAY: 1}
