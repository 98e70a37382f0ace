"""What clients are told to ask: requests whose paths are unique, of many shapes, and the answers they note."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

Family = Literal["v4", "v6"]
ADDRESSES: dict[Family, str] = {"v4": "127.0.0.1", "v6": "::1"}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plan (integration/programs/workload.py)."""

    id: str
    method: str = "GET"
    url: str
    body: int = 0
    chunked: bool = False
    headers: dict[str, str] = {}
    version: str = "1.1"
    """What the client speaks; not its choice but its nature."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a client's log."""

    id: str
    status: int
    body: int
    start_ns: int
    end_ns: int
    peer: str
    error: str


def base_url(family: Family, port: int, *, scheme: str = "http") -> str:
    """The URL of a server on loopback."""
    address = ADDRESSES[family]
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


# Method, query, size of the request's body, chunked: one request of each shape. A prime number of shapes, so that
# shapes meet every connection of a pool.
SHAPES: tuple[tuple[str, str, int, bool], ...] = (
    ("GET", "", 0, False),
    ("GET", "size=0", 0, False),
    ("GET", "size=7&q=a%20b%C3%BC&empty=&x=1+1", 0, False),
    ("GET", "size=300000", 0, False),
    ("GET", "size=5000&chunked=1", 0, False),
    ("POST", "size=11", 1, False),
    ("POST", "size=20000", 9000, False),
    ("POST", "size=3", 250000, False),
    ("PUT", "size=4000&chunked=1", 3500, True),
    ("PUT", "", 0, False),
    ("PATCH", "size=77", 123, False),
    ("DELETE", "status=204", 0, False),
    ("HEAD", "size=1234", 0, False),
    ("OPTIONS", "size=17", 0, False),
    ("GET", "status=304", 0, False),
    ("GET", "status=404&size=9", 0, False),
    ("GET", "status=503&size=600", 0, False),
    ("POST", "status=500&size=1", 40, False),
    ("GET", "delay=3&size=50", 0, False),
)


def app_plan(run: str, base: str, count: int, *, agent: str, without: tuple[str, ...] = ()) -> list[Request]:
    """`count` requests for a server that reads the workload's query, every shape in turn.
    `without` names methods the client cannot send, or 'chunked'."""
    shapes = [shape for shape in SHAPES if shape[0] not in without and not (shape[3] and "chunked" in without)]
    requests = []
    for number in range(count):
        method, query, body, chunked = shapes[number % len(shapes)]
        url = f"{base}/r/{run}/{number:05d}" + (f"?{query}" if query else "")
        requests.append(
            Request(
                id=f"{number:05d}",
                method=method,
                url=url,
                body=body,
                chunked=chunked,
                headers={"User-Agent": agent, "Accept-Encoding": "identity"},
            )
        )
    return requests


def write_plan(path: Path, requests: list[Request]) -> None:
    """The plan as clients read it."""
    path.write_bytes(b"".join(msgspec.json.encode(request) + b"\n" for request in requests))


def read_log(path: Path) -> dict[str, Answer]:
    """What a client noted, by id."""
    answers = [msgspec.json.decode(line, type=Answer) for line in path.read_bytes().splitlines()]
    by_id = {answer.id: answer for answer in answers}
    assert len(by_id) == len(answers), "a client answered the same request twice"
    return by_id
