"""What a tracepoint that takes no program means, by the kernel's answer."""

from __future__ import annotations

import errno

import pytest

from otelbpf.sources.loader import refusal


@pytest.mark.parametrize(
    ("tracepoint", "number", "said"),
    [
        (
            "sock_send_length",
            errno.ENOENT,
            "the kernel has no tracepoint sock_send_length; needs Linux 6.3, or --tier kprobe before that",
        ),
        (
            "tcp_destroy_sock",
            errno.ENOENT,
            "the kernel refuses a program at its tracepoint tcp_destroy_sock (No such file or directory); "
            "run otelbpf doctor",
        ),
        ("sched_process_exec", errno.EMFILE, "too many open files for the probes; raise the limit: ulimit -n 1024"),
    ],
)
def test_each_refusal_says_what_helps(tracepoint: str, number: int, said: str) -> None:
    assert str(refusal(tracepoint, number)) == said
