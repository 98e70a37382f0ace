"""The layout of records is the same in C and in Python, says a compiler."""

from __future__ import annotations

import itertools

import pytest

from otelbpf.events import wire
from tests.layouts import COMPILERS, compile_with, of_constants, of_struct

HEADER = ("header.", wire.HEADER_FIELDS)
ENDPOINTS = ("endpoints.", wire.ENDPOINTS_FIELDS)


def claims() -> itertools.chain[str]:
    return itertools.chain(
        of_struct("record_header", ("", wire.HEADER_FIELDS)),
        of_struct("endpoints", ("", wire.ENDPOINTS_FIELDS)),
        of_struct("data_record", HEADER, ENDPOINTS, ("", wire.DATA_FIELDS)),
        of_struct("state_record", HEADER, ENDPOINTS, ("", wire.STATE_FIELDS)),
        of_struct("tls_record", HEADER, ENDPOINTS, ("", wire.TLS_FIELDS)),
        of_struct("process_record", HEADER, ("", wire.PROCESS_FIELDS)),
        of_struct("answer_record", HEADER, ("", (("payload", f"{wire.ANSWER_BYTES}s"),))),
        of_struct("loss", ("", (("events", "Q"), ("bytes", "Q")))),
        of_constants(
            OTELBPF_ABI=wire.ABI,
            COMM_BYTES=wire.COMM_BYTES,
            TAIL_BYTES=wire.TAIL_BYTES,
            ANSWER_BYTES=wire.ANSWER_BYTES,
            LOSS_REASONS=len(wire.Loss),
        ),
        # Kinds from 32 on are made in user space and unknown to the probes.
        of_constants(**{f"RECORD_{kind.name}": kind for kind in wire.Kind if kind < 32}),
        of_constants(**{f"FLAG_{flag.name}": flag for flag in wire.Flag}),
        of_constants(**{f"UNSEEN_{reason.name}": reason for reason in wire.Unseen}),
        of_constants(**{f"TLS_{event.name}": event for event in wire.TlsEvent}),
        of_constants(**{f"LOSS_{reason.name}": reason for reason in wire.Loss}),
    )


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_header_and_its_mirror_are_equal(compiler: str) -> None:
    assert compile_with(compiler, "events.h", claims()) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_difference_would_be_seen(compiler: str) -> None:
    said = compile_with(compiler, "events.h", of_struct("record_header", ("", wire.HEADER_FIELDS[:-1])))

    assert "sizeof(struct record_header) == 36" in said


def test_python_reads_with_the_same_sizes() -> None:
    sizes = {"HEADER": 40, "ENDPOINTS": 40, "DATA": 112, "STATE": 200, "TLS": 152, "PROCESS": 80}

    assert {name: getattr(wire, name).size for name in sizes} == sizes
