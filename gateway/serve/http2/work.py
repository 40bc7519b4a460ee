"""The requests of one connection: how many at a time, what waits for them, and how each of them ends.

No request is looked at, and none is judged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from gateway.fronts.limits import COMING, Coming

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


class Inbox:
    """What has come of one request's body, and waits for the application; its octets are counted in `coming`."""

    def __init__(self, room: int, coming: Coming) -> None:
        self._into, self._out_of = trio.open_memory_channel[ASGIReceiveEvent](room)
        self._coming = coming
        self._waiting = 0
        self._closed = False

    async def put(self, event: ASGIReceiveEvent) -> bool:
        """Wait for room, and put it there, unless nobody listens; False where too much waits, here and elsewhere."""
        if self._closed:
            return True
        length = _octets(event)
        self._waiting += length
        self._coming.held += length
        if length and self._coming.full(self._waiting):
            return False
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._into.send(event)
        return True

    async def receive(self) -> ASGIReceiveEvent:
        """The next, or that the client has gone."""
        try:
            event = await self._out_of.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}
        self._forget(_octets(event))
        return event

    def end(self) -> None:
        """Nothing more will come."""
        self._into.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self._closed = True
        self._out_of.close()
        self._forget(self._waiting)

    def _forget(self, length: int) -> None:
        self._waiting -= length
        self._coming.held -= length


def _octets(event: ASGIReceiveEvent) -> int:
    return len(event["body"]) if event["type"] == "http.request" else 0


class Work(TaskGroup):
    """The tasks of one connection. `drop` closes it, whatever is going on in it."""

    def __init__(self, drop: Callable[[], Awaitable[None]], coming: Coming = COMING) -> None:
        super().__init__()
        self._drop = drop
        self._coming = coming
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
        inbox = Inbox(config.max_app_queue_size, self._coming)
        asked = trio.CancelScope()
        answered = False

        async def deliver(event: ASGIReceiveEvent) -> None:
            if event["type"] in _DISCONNECTS:
                inbox.end()
                # Nobody will read the answer: what has not been begun need not be (a signature in the queue). An answer
                # that is on its way ends by itself, and this is how Hypercorn says that it has ended, too.
                if not answered:
                    asked.cancel()
                return
            if not await inbox.put(event):
                await self._drop()

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
                    await app(scope, inbox.receive, answer, trio.to_thread.run_sync, trio.from_thread.run)
            except Exception:
                # The application keeps its failures to itself; this one is of its outermost layer, or of Hypercorn.
                logger.exception("a request failed outside the application")
            finally:
                inbox.close()
                if asked.cancelled_caught:
                    with trio.move_on_after(RESET_SECONDS):
                        await self._ended.wait()
                self._at_work -= 1
                await answer(None)

        if self._at_work < MOST_AT_WORK:
            self._at_work += 1
            self.spawn(work)
        else:
            inbox.close()
            await self._drop()
        return deliver
