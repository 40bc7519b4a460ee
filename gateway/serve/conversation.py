"""HTTP/2 as Hypercorn speaks it, with an end to each wait and an answer to each frame.

Everything here closes a way in which a stranger could hold a connection, its place and its memory for ever, or end it
with an exception, under Hypercorn 0.18. No request is looked at, and none is judged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import h2.errors
import h2.events
import h2.exceptions
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol.h2 import H2Protocol
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
