"""One request and its answer, as ASGI sees them.

The body is read when the application asks for it, never before and never beyond its end; an answer's head waits for the
first of its body, so that both leave in one send. Nothing here outlives the application's call.
"""

from __future__ import annotations

from typing import Final

import trio
from starlette.types import Message

from gateway.fronts.limits import ANSWER
from gateway.serve.http1.answer import BODILESS, CONTINUE, Lead, lead
from gateway.serve.http1.body import Chunked
from gateway.serve.http1.hall import Hall
from gateway.serve.http1.head import Head, Unreadable
from gateway.serve.http1.wire import Gone, Wire

_LATER: Final = frozenset({429, 503})
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Turn:
    """One request on `wire`, of which `data` came with its head.

    `begun` and `over` speak of the answer. `keeps` says whether the connection may go on, and `rest` what came behind
    the request; both are known when the answer has begun. `refused` is why the body could not be read.
    """

    __slots__ = (
        "_asked",
        "_body_until",
        "_chunked",
        "_chunks",
        "_given",
        "_gone",
        "_hall",
        "_head",
        "_here",
        "_lead",
        "_left",
        "_lost",
        "_owed",
        "_status",
        "_wire",
        "begun",
        "keeps",
        "over",
        "refused",
        "rest",
    )

    def __init__(self, wire: Wire, hall: Hall, head: Head, data: bytes) -> None:
        self._wire = wire
        self._head = head
        self._hall = hall
        self._chunked: Chunked | None = None
        self._left = 0
        self.rest = b""
        end, length = head.end, head.length
        if length is None:
            self._chunked = Chunked()
            self._left = -1
            self._here = data[end:]
        elif len(data) == end + length:
            self._here = data[end:]
        else:
            self._here = data[end : end + length]
            self.rest = data[end + length :]
            self._left = length - len(self._here)
        # Whoever has sent some of the body does not wait for 100.
        self._asked = not head.waits or bool(self._here)
        self._given = False
        self._body_until = 0.0
        self._gone: trio.Event | None = None
        self._lead: Lead | None = None
        self._status = 0
        self._owed: int | None = None
        self._chunks = False
        self._lost = False
        self.begun = False
        self.over = False
        self.keeps = head.keeps
        self.refused: Unreadable | None = None

    @property
    def whole(self) -> bytes | None:
        """The body, where all of it came with the head."""
        return None if self._left else self._here

    @property
    def later(self) -> bool:
        """Whether the answer told its client to come again later."""
        return self._status in _LATER

    def lose(self) -> None:
        """The peer has gone; an application that waits to hear of it does."""
        self.keeps = False
        if self._gone is not None:
            self._gone.set()

    async def receive(self) -> Message:
        """ASGI's `receive`: what is here of the body, else the next bytes of it; then, that the peer has gone."""
        if self._given:
            if self.refused is None:
                self._gone = self._gone or trio.Event()
                await self._gone.wait()
            return {"type": "http.disconnect"}
        if self._left == 0:
            self._given = True
            return {"type": "http.request", "body": self._here, "more_body": False}
        try:
            part = await self._next_part()
        except Unreadable as refused:
            self.refused = refused.unraised()
            self.keeps = False
            self._given = True
            return {"type": "http.disconnect"}
        self._given = self._left == 0
        return {"type": "http.request", "body": part, "more_body": not self._given}

    async def _next_part(self) -> bytes:
        """Some of the body, which is not at its end; it may be then."""
        while True:
            data, self._here = self._here, b""
            if not data:
                data = await self._more()
                if self._chunked is None:
                    data, self.rest = data[: self._left], data[self._left :]
                    self._left -= len(data)
                    return data
            elif self._chunked is None:
                return data
            part = self._chunked.feed(data)
            if self._chunked.done:
                self._left = 0
                self.rest = self._chunked.rest
            if part or self._left == 0:
                return part

    async def _more(self) -> bytes:
        now = trio.current_time()
        if not self._body_until:
            self._body_until = now + self._hall.patience.body
        if not self._asked:
            if self.begun:
                raise Unreadable(400, "the body was not asked for")
            self._asked = True
            try:
                await self._wire.write(CONTINUE, self._hall.patience.write)
            except Gone:
                raise Unreadable(400, "the body broke off") from None
        with trio.move_on_at(min(now + self._hall.patience.progress, self._body_until)):
            data = await self._wire.read()
            if not data:
                raise Unreadable(400, "the body broke off")
            return data
        raise Unreadable(408, "the body did not arrive in time")

    async def send(self, message: Message) -> None:
        """ASGI's `send`. Raises RuntimeError or ValueError for what is no answer."""
        kind = message["type"]
        if (kind == ANSWER or kind == "http.response.start") and self._lead is None:  # noqa: PLR1714, quicker than a set
            self._status = message["status"]
            self._lead = lead(self._status, message.get("headers", ()), self._hall.watch.date)
            if kind != ANSWER:
                return
        elif kind != "http.response.body" or self._lead is None or self.over:
            raise RuntimeError(f"{kind} has no place here")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        data = self._next(body, more=more) if self.begun else self._first(self._lead, body, more=more)
        self.begun = True
        if data and not self._lost:
            try:
                await self._wire.write(data, self._hall.patience.write)
            except Gone:
                # What is left of the answer has nowhere to go; the application need not know.
                self._lost = True
                self.lose()
            except BaseException:
                # Cancelled in the middle: nobody can tell any more where the next answer would begin.
                self._lost = True
                self.keeps = False
                raise
        self.over = not more

    def _first(self, head: Lead, body: bytes, *, more: bool) -> bytes:
        """The answer's head, and the first of its body."""
        length = b""
        asked = self._head
        if head.length == len(body) and not more and asked.method != "HEAD" and self._status not in BODILESS:
            return b"".join((head.lines, self._connection(head), b"\r\n", body))  # as nearly all are
        silent = asked.method == "HEAD" or self._status in BODILESS
        if head.length is not None:
            self._owed = head.length
        elif not more:
            self._owed = len(body)
            if self._status not in BODILESS and (body or asked.method != "HEAD"):
                length = b"Content-Length: %d\r\n" % len(body)
        elif asked.modern and not silent:
            self._chunks = True
            length = b"Transfer-Encoding: chunked\r\n"
        elif not silent:
            self.keeps = False  # its end is the connection's
        if silent:
            self._owed = None
        shown = b"" if silent else self._framed(body, more=more)
        return b"".join((head.lines, length, self._connection(head), b"\r\n", shown))

    def _connection(self, head: Lead) -> bytes:
        """What the answer says of the connection. A body that has not come yet would be taken for a request."""
        if self._hall.ending.is_set() or (self._left and not self._all_here()):
            self.keeps = False
        if head.closes:
            self.keeps = False
            return b""
        if not self.keeps:
            return b"Connection: close\r\n"
        return b"" if self._head.modern else b"Connection: keep-alive\r\n"

    def _all_here(self) -> bool:
        """Whether a chunked body that nobody asked for came with its head; it is read over then."""
        chunked = self._chunked
        if chunked is None:
            return False
        try:
            chunked.feed(self._here)
        except Unreadable:
            return False
        self._here = b""
        if chunked.done:
            self._left, self.rest, self._given = 0, chunked.rest, True
        return chunked.done

    def _next(self, body: bytes, *, more: bool) -> bytes:
        if self._head.method == "HEAD" or self._status in BODILESS:
            return b""
        return self._framed(body, more=more)

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        if self._chunks:
            part = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return part if more else part + _LAST_CHUNK
        if self._owed is not None:
            self._owed -= len(body)
            if self._owed < 0 or (self._owed and not more):
                raise ValueError("an answer's body has not the length that its head says")
        return body
