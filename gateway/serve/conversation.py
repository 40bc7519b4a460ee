"""HTTP/1.1 and HTTP/2 as Hypercorn speaks them, with an end to each wait and an answer to each frame.

Everything here closes a way in which a stranger could hold a connection, its place and its memory for ever, or end it
with an exception, under Hypercorn 0.18. No request is looked at, and none is judged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import h2.errors
import h2.events
import h2.exceptions
import trio
from h11 import IDLE, Connection
from h11 import Request as Http1Request
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

logger = logging.getLogger("muster.listener")

# How long a peer may leave an answer unread before the connection is dropped; answers are a few KiB. As long may what
# is left of a connection take to end once its peer has gone.
WRITE_SECONDS: Final = 30.0
# Requests of one connection that are being worked on. A stream that is reset frees its place among the 128 at once, and
# its request not before it is done (CVE-2023-44487): twice as many is a client that changes its mind, more is a flood.
MOST_AT_WORK: Final = 256
# A request that was reset is given up at once, and keeps its place for so long: else a flood of them would never end.
# Whoever changes their mind 25 times a second for so long is one, on a busy machine too.
RESET_SECONDS: Final = 10.0

# The timer of an idle connection may run on for this part of its time, though requests came and were refused.
STALE: Final = 1 / 3

Early: TypeAlias = Callable[[bytes], bytes | None]
"""Gives the whole answer to the bytes of one whole request, or None where they are to be read."""

_DISCONNECTS: Final = frozenset({"http.disconnect", "websocket.disconnect"})


class Work(TaskGroup):
    """The tasks of one connection. `drop` closes it, whatever is going on in it."""

    def __init__(self, drop: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._drop = drop
        self._at_work = 0
        self._ended = trio.Event()

    def end_soon(self) -> None:
        """The peer has gone: what is still going on may end by itself for a while, and is cancelled then.

        Hypercorn would wait for it: for ever, where an answer waits for an HTTP/2 window that nobody opens any more.
        """
        assert self._nursery is not None
        self._ended.set()
        self._nursery.cancel_scope.deadline = trio.current_time() + WRITE_SECONDS

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start answering one request; gives where its messages go, which never waits for one who does not listen.

        Hypercorn's own waits for room in the request's queue even to say that the peer has gone, or that the answer is
        complete: an answer given before its body was read then never ended.
        """
        into, out_of = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        asked = trio.CancelScope()
        answered = False

        async def deliver(event: ASGIReceiveEvent) -> None:
            if event["type"] in _DISCONNECTS:
                into.close()
                # Nobody will read the answer: what has not been begun need not be (a signature in the queue). An answer
                # that is on its way ends by itself, and this is how Hypercorn says that it has ended, too.
                if not answered:
                    asked.cancel()
                return
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await into.send(event)

        async def receive() -> ASGIReceiveEvent:
            try:
                return await out_of.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        async def answer(message: ASGISendEvent | None) -> None:
            nonlocal answered
            answered = True
            with trio.move_on_after(WRITE_SECONDS) as patience:
                await send(message)
            if patience.cancelled_caught:
                await self._drop()

        async def work() -> None:
            try:
                with asked:
                    await app(scope, receive, answer, trio.to_thread.run_sync, trio.from_thread.run)
            except Exception:
                # The application keeps its failures to itself; this one is of its outermost layer, or of Hypercorn.
                logger.exception("a request failed outside the application")
            finally:
                out_of.close()
                if asked.cancelled_caught:
                    with trio.move_on_after(RESET_SECONDS):
                        await self._ended.wait()
                self._at_work -= 1
                await answer(None)

        if self._at_work < MOST_AT_WORK:
            self._at_work += 1
            self.spawn(work)
        else:
            out_of.close()
            await self._drop()
        return deliver


class Http1(H11Protocol):
    """HTTP/1.1 and nothing else: HTTP/2 is agreed on in TLS, WebSockets nowhere.

    RFC 9110, 7.8: an upgrade may be ignored. It leads past a proxy that counts on HTTP/1.1, and what follows it is read
    by parsers that raise. `early` may answer what came between two requests, before it is read (P16).
    """

    early: Early | None = None
    _awake = -math.inf

    async def initiate(self) -> None:
        """Begin; the wait for a first request does, too."""
        self._awake = trio.current_time()
        await super().initiate()

    async def handle(self, event: Event) -> None:
        """Take in what came."""
        if self.early is not None and isinstance(event, RawData) and self._between_requests:
            answer = self.early(event.data)
            if answer is not None:
                await self.send(RawData(data=answer))
                await self._stay_awake()
                return
        await super().handle(event)

    @property
    def _between_requests(self) -> bool:
        connection = self.connection
        return (
            self.stream is None
            and isinstance(connection, Connection)
            and connection.their_state is IDLE
            and connection.our_state is IDLE
            and not connection.trailing_data[0]
            and not self.context.terminated.is_set()
        )

    async def _stay_awake(self) -> None:
        # The wait for the next request begins anew. It is a task: to start one for each would double a refusal's cost.
        now = trio.current_time()
        if now - self._awake > self.config.keep_alive_timeout * STALE:
            self._awake = now
            await self.send(Updated(idle=True))

    async def _check_protocol(self, event: Http1Request) -> None:
        pass

    async def _create_stream(self, request: Http1Request) -> None:
        if any(name == b"upgrade" for name, _ in request.headers):
            kept = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"upgrade"]
            request = Http1Request(
                method=request.method, target=request.target, headers=kept, http_version=request.http_version
            )
        await super()._create_stream(request)


class _Gone(HTTPStream):
    """What stands for a stream that has ended: hears everything, does nothing."""

    def __init__(self) -> None:
        self.closed = True


class _Streams(dict[int, HTTPStream | WSStream]):
    """The open streams by their id. A frame for one that was answered already is no surprise, and means nothing."""

    def __missing__(self, stream_id: int) -> HTTPStream:
        return _GONE


_GONE: Final = _Gone()


class Http2(H2Protocol):
    """HTTP/2, whose streams do not end each other."""

    streams: dict[int, HTTPStream | WSStream]

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        """Begin. Hypercorn's own streams raise KeyError, and so end all others, for DATA after the answer."""
        self.streams = _Streams()
        await super().initiate(headers, settings)

    async def handle(self, event: Event) -> None:
        """Take in what came. Once the peer has gone, no answer waits any longer for room to be sent."""
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in tuple(self.stream_buffers.values()):
                await buffer.close()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        told = dict(request.headers or ())
        method, path = told.get(b":method", b""), told.get(b":path", b"")
        if method != b"CONNECT" and path and method.isascii() and path.isascii():
            await super()._create_stream(request)
            return
        # RFC 9113, 8.1.1: malformed, or a tunnel, which nobody offers. It is this stream's affair alone.
        with suppress(h2.exceptions.ProtocolError):
            self.connection.reset_stream(request.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        # RFC 9113, 5.3.2: deprecated, and may be ignored. A tree of streams that strangers plant can be filled up.
        pass
