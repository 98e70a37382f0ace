"""The steps of an HTTP/1 conversation, each side in one of them at a time:

    head ──► body ──► head          Content-Length, chunks; until the close where a response has neither
    head ──► hold ──► head          what follows a CONNECT waits for the answer: a tunnel's bytes, or the next request
    head ──► expected ──► body, head   the body may not be wanted, and then not come (Expect: 100-continue)
    head ──► opaque                 after 101, or 2xx to CONNECT: not HTTP any more
    head ──► malformed              no request by the rules (see http1_malformed)
    head, body ──► adrift ──► head  the bytes that frame the message were deliberately not copied (see http1_drift)
    any ──► over                    closed, or given up

What a response means depends on its request (HEAD, CONNECT), so the methods of the requests without an answer are kept
in order.
"""

from __future__ import annotations

from typing import Final

from otelbpf.protocols.base import Incomplete, Message, ProtocolError, Side
from otelbpf.protocols.detect import Verdict, looks_like_request
from otelbpf.protocols.grpc import WEB, parts_of
from otelbpf.protocols.http1_body import Chunked, Sized, UntilClose, switches, without_body
from otelbpf.protocols.http1_drift import Drift
from otelbpf.protocols.http1_half import Half, pass_empty_lines
from otelbpf.protocols.http1_head import CHUNKED, UNFRAMED, Heads, whole_lines
from otelbpf.protocols.http1_judge import BLANK_LINE

MAX_WAITING: Final = 10_000
"""Requests that may be without an answer; real clients that pipeline at all send a few dozen."""

_MAX_DOUBTFUL: Final = 4096
"""Bytes that may be held where a body or another request may have begun; each that comes looks at all again."""

# Python 3.11 takes ten times as long for a member of an enum as for a name.
_CLIENT: Final = Side.CLIENT
_SERVER: Final = Side.SERVER


class Flow:
    """Takes bytes; what is done about bytes that are missing or malformed is `Http1`'s."""

    __slots__ = ("_client", "_head_limit", "_heads", "_inferred", "_malformed", "_pipelines", "_server", "_waiting")

    def __init__(self, starts: tuple[int, int], heads: Heads, head_limit: int) -> None:
        self._client = Half(Side.CLIENT, starts[Side.CLIENT], Flow._head)
        self._server = Half(Side.SERVER, starts[Side.SERVER], Flow._head)
        self._heads = heads
        self._head_limit = head_limit
        self._waiting: list[str] = []  # methods of the requests without an answer; an empty deque takes 760 bytes
        self._pipelines = False  # the client has sent a request before the answer to another one began
        self._malformed = False  # the newest request is
        self._inferred = False  # an end on the client's side was inferred: a request may have been missed

    # -- heads -----------------------------------------------------------------------------------------------------

    def _head(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """Between messages, or in a head."""
        if not half.pending:
            if data[at] <= 0x20:
                return pass_empty_lines(half, data, at)
            end = data.find(b"\r\n\r\n", at, at + self._head_limit) + 4
            if end > 3:
                return self._whole(half, data[at:end], data, at, out)
        return self._gather(half, data, at, out)

    def _gather(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """A head that comes in pieces, or that does not end in CRLF CRLF."""
        pending = half.pending
        held = len(pending)
        if not held:
            match = BLANK_LINE.search(data, at, at + self._head_limit)
            if match is not None:
                return self._whole(half, data[at : match.end()], data, at, out)
            half.begin = half.position + at
            half.searched = 0
        elif pending == b"\r":
            half.pending = b""
            if data[at] != 0x0A:
                raise ProtocolError("a head begins with a CR")
            return at + 1
        half.keep(data[at : at + self._head_limit - held])
        pending = half.pending
        match = BLANK_LINE.search(pending, half.searched)
        if match is None:
            half.searched = max(len(pending) - 2, 0)
            if len(pending) < self._head_limit:
                return len(data)
            self._cut_head(half, half.position + len(data), out)
            # Where it goes on beyond what is kept is taken as what follows a cut.
            return half.step(self, half, data, at + self._head_limit - held, out)
        at = self._whole(half, bytes(pending[: match.end()]), data, at - held, out)
        half.pending = b""
        return at

    def _whole(self, half: Half, head: bytes, data: bytes, at: int, out: list[Message]) -> int:
        """`head` begins at `data[at]`, which is before `data` if it came in pieces."""
        if half.side is _CLIENT:
            return self._request(half, head, data, at, out)
        return self._response(half, head, data, at, out)

    def _request(self, half: Half, head: bytes, data: bytes, at: int, out: list[Message]) -> int:
        method, target, version, headers, length, size = self._heads.request(head)
        at += size
        end = half.position + at
        message = self._asking(half, end - size, end, method, target, version, headers)
        if method == "CONNECT" and half.after is Flow._head:
            half.after = Flow._hold
        at = self._frame(half, message, 0 if length == UNFRAMED else length, data, at, out)
        if half.body is not None and headers.get("expect", "").lower() == "100-continue":
            half.step = Flow._expected
        return at

    def _response(self, half: Half, head: bytes, data: bytes, at: int, out: list[Message]) -> int:
        status, version, headers, length, size = self._heads.response(head)
        at += size
        if status < 200 and status != 101:
            return at
        method = self._asked(status, out)
        end = half.position + at
        message = Message(_SERVER, end - size, end, method, "", status, version, headers)
        if switches(message):
            out.append(message)
            self._switch(message, end, out)
            return at
        at = self._frame(half, message, without_body(method, status, length), data, at, out)
        if method == "CONNECT":
            self._refuse_tunnel(out)
        return at

    def _frame(self, half: Half, message: Message, length: int, data: bytes, at: int, out: list[Message]) -> int:
        """The head ends at `data[at]`: announce, and take the body if it is there whole."""
        content = None
        content_type = message.headers.get("content-type")
        if content_type is not None and content_type.startswith(WEB):
            half.reads = True
            if length:
                content = parts_of(content_type)
            else:
                message.parts = 0
        if 0 <= length <= len(data) - at and content is None:
            message.end = message.head_end + length
            message.body_size = length
            half.message = None
            half.step = half.after
            out.append(message)
            if half is self._server and self._client.drift is not None:
                self._settle_answered(out)
            return at + length
        if half.message is None:
            half.announce(message, out)
        if length == CHUNKED:
            half.body = Chunked(self._heads, self._head_limit, content)
        else:
            half.body = UntilClose(content) if length == UNFRAMED else Sized(length, content)
        half.step = Flow._body
        return at

    # -- whose answer ----------------------------------------------------------------------------------------------

    def _ask(self, method: str) -> None:
        if self._waiting:
            self._pipelines = True
            if len(self._waiting) >= MAX_WAITING:
                raise ProtocolError("too many requests without an answer")
        self._waiting.append(method)

    def _asking(
        self, half: Half, begin: int, end: int, method: str, target: str, version: str, headers: dict[str, str]
    ) -> Message:
        """The request that has this head."""
        message = half.message
        if message is None:
            self._ask(method)
            return Message(_CLIENT, begin, end, method, target, 0, version, headers)
        message.head_end = end  # announced early
        message.headers = headers
        return message

    def _asked(self, status: int, out: list[Message]) -> str:
        """The method of the request that the response which begins now, with this status, answers."""
        if not self._waiting and not self._announce_early(out) and self._inferred:
            raise ProtocolError("a response to a request that was not seen")
        method = self._waiting.pop(0) if self._waiting else ""
        if self._malformed and not self._waiting:
            if not method and status < 400:
                raise ProtocolError("a server that understood what is no request")
            if self._client.step is Flow._beyond:
                self._end(self._client, self._client.position, -1, out)
        return method

    def _announce_early(self, out: list[Message]) -> bool:
        """A request whose head is not complete is answered: 400, 408, 414, 431."""
        half = self._client
        if half.step is not Flow._head or half.message is not None:
            return False
        try:
            begun = self._begun(half, out)
        except ProtocolError:
            if self._take_malformed(half, half.begin, bytes(half.pending), out):
                return True
            raise
        if begun is None:
            unlike = looks_like_request(bytes(half.pending)) is Verdict.NO
            return unlike and self._take_malformed(half, half.begin, bytes(half.pending), out)
        half.message, _ = begun
        out.append(half.message)
        return True

    def _take_malformed(self, half: Half, begin: int, known: bytes, out: list[Message]) -> bool:
        """What begins at `begin`, `known` of it, is no request by the rules, or no body. It will have an answer like
        any other request. False where too little is certain."""
        raise NotImplementedError

    def _beyond(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """Behind a request that is malformed nobody knows where another one begins."""
        return len(data)

    def _begun(self, half: Half, out: list[Message]) -> tuple[Message, int] | None:
        """The message whose head is pending, and its length by its headers, from the lines that are whole; None where
        they tell of none."""
        if half.pending.find(b"\n") < 0:
            return None
        head = whole_lines(bytes(half.pending))
        end = half.begin + len(half.pending)
        if half.side is _CLIENT:
            method, target, version, headers, length, _ = self._heads.request(head)
            return self._asking(half, half.begin, end, method, target, version, headers), length
        status, version, headers, length, _ = self._heads.response(head)
        if status < 200 and status != 101:
            return None
        method = self._asked(status, out)
        message = Message(_SERVER, half.begin, end, method, "", status, version, headers)
        return message, without_body(method, status, length)

    # -- bodies, tunnels -------------------------------------------------------------------------------------------

    def _body(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        body = half.body
        assert body is not None
        at = body.feed(data, at)
        if body.done:
            self._end(half, half.position + at, body.size, out)
        return at

    def _expected(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """A body that the client asked about (RFC 9110 section 10.1.1): who gets a final answer instead of 100 may keep
        it, and go on with the next request."""
        held = bytes(half.pending)
        verdict = Verdict.NO if self._waiting else looks_like_request(held + data[at:])
        if verdict is Verdict.MORE:
            if not held:
                half.begin = half.position + at
            half.keep(data[at:])
            body = half.body
            if len(half.pending) >= (min(body.left, _MAX_DOUBTFUL) if isinstance(body, Sized) else _MAX_DOUBTFUL):
                raise ProtocolError("the body, or another request")
            return len(data)
        half.pending = b""
        if verdict is Verdict.YES:
            self._end(half, half.position + at - len(held), 0, out)
        else:
            half.step = Flow._body
        self._replay(half, held, out)
        return at

    def _end(self, half: Half, end: int, body_size: int, out: list[Message]) -> None:
        """The open message, if there is one, ends."""
        message = half.message
        if message is not None:
            message.end = end
            message.body_size = body_size
            body = half.body
            if body is not None and body.content is not None:
                body.content.tell(message)
            if half.announced is not out:
                out.append(message)
        half.forget()
        half.step = half.after
        if half is self._server and self._client.drift is not None:
            self._settle_answered(out)

    def _hold(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """Behind a CONNECT (RFC 9110 section 9.3.6): what these bytes are, the answer will tell."""
        if len(half.pending) + len(data) - at > self._head_limit:
            half.overflow = True
            half.pending = b""
        if not half.overflow:
            half.keep(data[at:])
        return len(data)

    def _refuse_tunnel(self, out: list[Message]) -> None:
        """A CONNECT was refused: what the client has sent since is HTTP."""
        half = self._client
        half.after = Flow._head
        if half.step is not Flow._hold:
            return
        if half.overflow:
            raise ProtocolError("too much was sent before the answer to a CONNECT")
        half.step = Flow._head
        held = bytes(half.pending)
        half.pending = b""
        self._replay(half, held, out)

    def _replay(self, half: Half, data: bytes, out: list[Message]) -> None:
        """Take bytes that were put aside, the newest before `position`."""
        half.position -= len(data)
        at = 0
        while at < len(data):
            at = half.step(self, half, data, at, out)
        half.position += len(data)

    def _switch(self, message: Message, end: int, out: list[Message]) -> None:
        message.end = end
        message.body_size = 0
        message.upgrade = True
        self._server.step = Flow._opaque
        client = self._client
        client.after = Flow._opaque
        if client.body is None:  # RFC 9110 section 7.8: the request is finished first
            client.pending = b""
            if client.message is not None and client.drift is None and not client.message.incomplete:
                client.message.incomplete = Incomplete.CLOSED
            self._end(client, client.position, -1, out)

    def _opaque(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        return len(data)

    def _over(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        raise ProtocolError("bytes of a side that is over")

    # -- adrift ----------------------------------------------------------------------------------------------------

    def _cut_head(self, half: Half, end: int, out: list[Message]) -> None:
        """The rest of a head, as far as `end`, was not copied or is not kept: what is known of it is announced."""
        begun = self._begun(half, out)
        if begun is None:
            raise ProtocolError("a first line was not seen whole")
        message, length = begun
        message.incomplete = Incomplete.HEAD_BEYOND_LIMIT
        half.pending = b""
        if half.message is None:
            half.announce(message, out)
        if half.side is _SERVER and switches(message):
            half.forget()
            self._switch(message, end, out)
            return
        self._set_adrift(half, chunked=length == CHUNKED)
        if half.side is _SERVER and message.method == "CONNECT":
            self._refuse_tunnel(out)

    def _set_adrift(self, half: Half, *, chunked: bool) -> None:
        half.body = None
        half.drift = Drift(half.side, chunked=chunked)
        half.step = Flow._adrift
        if half is self._client:
            self._inferred = True

    def _adrift(self, half: Half, data: bytes, at: int, out: list[Message]) -> int:
        """A piece of a message whose end is not known; it begins where a system call did, or behind what was kept."""
        drift = half.drift
        assert drift is not None
        # A response may begin if a request waits for one; a request, if the one before it has its answer.
        if at == 0 and bool(self._waiting) is (half is self._server):
            verdict = drift.begins(data)
            if verdict is Verdict.YES:
                self._end(half, half.position - len(drift.candidate), -1, out)
                self._replay(half, drift.candidate, out)
                return at
            if verdict is Verdict.MORE:
                return len(data)
        self._check_alone(half)
        if drift.ends_with(data[at:]):
            self._settle(half, half.position + len(data), out)
        return len(data)

    def _check_alone(self, half: Half) -> None:
        """Nothing but the open message can be in what was not seen, or this is given up: another message of a side
        that sends several without waiting would be missed, and every later response taken for the wrong one."""
        if self._pipelines if half is self._client else self._waiting:
            raise ProtocolError("another message may be in what was not seen")

    def _settle(self, half: Half, end: int, out: list[Message]) -> None:
        """The open message is taken to end here. Were it wrong (a body can look like a last chunk), what still comes of
        it is passed over, until the next message begins."""
        message = half.message
        if message is not None:
            message.end = end
            if half.announced is not out:
                out.append(message)
            half.message = half.announced = None
            if half is self._server and self._client.drift is not None:
                self._settle_answered(out)

    def _settle_answered(self, out: list[Message]) -> None:
        """A response is complete: if the request it answers is adrift, it is over."""
        half = self._client
        if not self._waiting and half.drift is not None:
            self._settle(half, half.position - len(half.drift.candidate), out)
