"""The OTLP/HTTP backend of the benchmarks: benchmarks/workloads/sink.c, which counts spans and keeps nothing."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import msgspec

from benchmarks.programs import c_program
from integration.harness.processes import Running, free_port, wait_for


class Counts(msgspec.Struct, frozen=True):
    """What arrived since the sink's start."""

    requests: int
    bytes: int
    refused: int
    server: int
    client: int
    internal: int
    other: int

    @property
    def spans(self) -> int:
        """Of every kind."""
        return self.server + self.client + self.internal + self.other

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(*(now - before for now, before in zip(_numbers(self), _numbers(earlier), strict=True)))


class Sink:
    """The sink at work."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.running = Running([c_program("sink"), str(self.port)], folder=folder, name="sink")
        wait_for("the sink to answer", self._answers)

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def counts(self) -> Counts:
        """What has arrived by now."""
        with urllib.request.urlopen(self.endpoint, timeout=10) as answer:
            return Counts(**json.load(answer))

    def _answers(self) -> bool:
        try:
            return bool(self.counts())
        except OSError:
            return False


def _numbers(counts: Counts) -> list[int]:
    return [int(number) for number in msgspec.structs.astuple(counts)]
