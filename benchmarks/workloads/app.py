"""A small Flask application that counts its requests: / answers at once, /count tells the count, itself included."""

from __future__ import annotations

import itertools

from flask import Flask

app = Flask(__name__)
served = itertools.count(1)
served_by_now = [0]


@app.before_request
def count() -> None:
    """One more; `next` of a count is one step that no other thread can come between."""
    served_by_now[0] = max(served_by_now[0], next(served))


@app.get("/count")
def told() -> str:
    """How many requests there were."""
    return str(served_by_now[0])


@app.get("/", defaults={"path": ""})
@app.get("/<path:path>")
def index(path: str) -> str:
    """What is measured."""
    return "ok\n"
