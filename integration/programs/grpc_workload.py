"""gRPC without generated code: messages are bytes, any method is served, and `x-ask` says what a call shall do.

    x-ask: responses=3&size=10&status=5&delay=20     so many messages of so many bytes, a status, milliseconds first

    -m integration.programs.grpc_workload server PORT
    -m integration.programs.grpc_workload client PLAN LOG N TARGET

The last part of a method's name is its kind: Unary, ClientStream, ServerStream, Bidi. A plan is a file of JSON lines,
{"id", "method", "requests", "size", "ask", "timeout_ms", "cancel_ms"}; a log likewise, {"id", "status", "messages",
"start_ns", "end_ns"}. A client stays until its standard input ends, each line of which is another PLAN and LOG.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import grpc


def wishes(context: grpc.ServicerContext) -> dict[str, int]:
    """What the call shall do."""
    asked = dict(context.invocation_metadata()).get("x-ask", "")
    return {name: int(values[0]) for name, values in parse_qs(asked).items()}


def responses(context: grpc.ServicerContext) -> Iterator[bytes]:
    """The messages of a call, then its status."""
    wish = wishes(context)
    time.sleep(wish.get("delay", 0) / 1000)
    for _ in range(wish.get("responses", 1)):
        yield b"y" * wish.get("size", 2)
    if wish.get("status"):
        (code,) = (code for code in grpc.StatusCode if code.value[0] == wish["status"])
        context.abort(code, "as asked")


def one(_: bytes, context: grpc.ServicerContext) -> bytes:
    """Unary."""
    return b"".join(responses(context))


def one_of_many(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """A stream of requests, one response."""
    return one(b"".join(requests), context)


def many(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """One request, a stream of responses."""
    yield from responses(context)


def many_of_many(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Streams both ways: each request is answered when it is there, and then come the responses that were asked for."""
    yield from requests
    yield from responses(context)


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(one),
    "ClientStream": grpc.stream_unary_rpc_method_handler(one_of_many),
    "ServerStream": grpc.unary_stream_rpc_method_handler(many),
    "Bidi": grpc.stream_stream_rpc_method_handler(many_of_many),
}


class Anything(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves every method."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """By the last part of its name; one that has none is not implemented."""
        return HANDLERS.get(handler_call_details.method.rpartition("/")[2])


def serve(port: int) -> None:
    """Until it is ended."""
    server = grpc.server(futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((Anything(),))
    for address in ("127.0.0.1", "[::1]"):
        server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


def call(channel: grpc.Channel, asked: dict[str, Any]) -> dict[str, Any]:
    """One call to its end."""
    method = asked["method"]
    kind = method.rpartition("/")[2]
    streams_out, streams_in = kind in ("ClientStream", "Bidi"), kind in ("ServerStream", "Bidi")
    make = getattr(channel, f"{'stream' if streams_out else 'unary'}_{'stream' if streams_in else 'unary'}")(method)
    message = b"x" * asked["size"]
    timeout = asked["timeout_ms"] / 1000 if asked["timeout_ms"] else None
    how = {"timeout": timeout, "metadata": (("x-ask", asked["ask"]),)}
    line = {"id": asked["id"], "start_ns": time.time_ns(), "messages": 0}
    try:
        to_send = iter([message] * asked["requests"]) if streams_out else message
        running = make(to_send, **how) if streams_in else make.future(to_send, **how)
        if asked["cancel_ms"]:
            time.sleep(asked["cancel_ms"] / 1000)
            running.cancel()
        if streams_in:
            for _ in running:
                line["messages"] += 1
        else:
            running.result()
            line["messages"] = 1
        code = running.code()
    except grpc.FutureCancelledError:
        code = grpc.StatusCode.CANCELLED
    except grpc.RpcError as error:
        code = error.code()
    return {**line, "status": code.name, "end_ns": time.time_ns()}


def ask(plan: Path, log: Path, at_once: int, target: str) -> None:
    """The whole plan over one connection, and then those that standard input names."""
    with grpc.insecure_channel(target) as channel, futures.ThreadPoolExecutor(at_once) as threads:
        carry_out(plan, log, channel, threads)
        for line in sys.stdin:
            another, its_log = line.split()
            carry_out(Path(another), Path(its_log), channel, threads)


def carry_out(plan: Path, log: Path, channel: grpc.Channel, threads: futures.Executor) -> None:
    """Every call of a plan, and its log."""
    calls = [json.loads(line) for line in plan.read_text().splitlines()]
    lines = list(threads.map(lambda asked: call(channel, asked), calls))
    part = log.with_suffix(".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    part.rename(log)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]))
    else:
        ask(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
