"""HTTP/2, whose streams do not end each other, and whose connections end as clients expect (RFC 9113, 6.8).

A request is judged by its head alone (`http2.head`), and no right is decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import h2.errors
import h2.events
import h2.exceptions
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from gateway.fronts.carry import ReplyResponse
from gateway.fronts.limits import COMING, Coming
from gateway.fronts.problem import text
from gateway.serve.http1.connection import YOUNG_SECONDS
from gateway.serve.http1.hall import Circumstances
from gateway.serve.http1.head import FIELDS_LIMIT, Unreadable
from gateway.serve.http2.frames import EVERY_STREAM, Frames, Unbearable, goodbye
from gateway.serve.http2.head import Malformed, require_readable
from gateway.serve.http2.work import Work

# A field block is a little longer than what it says where nothing of it is compressed, and may be padded.
BLOCK_LIMIT: Final = FIELDS_LIMIT + 1024

# A PING is answered at once (RFC 9113, 6.7), by whoever is there and is not being paused; what it sends before it has
# heard must be answered, since not every client can send it again.
HEARD_SECONDS: Final = 5.0
_HEARD: Final = b"heard it"  # a PING has eight octets


class _Gone(HTTPStream):
    """What stands for a stream that has ended: hears everything, does nothing."""

    def __init__(self) -> None:
        self.closed = True


class _Streams(dict[int, HTTPStream | WSStream]):
    """The open streams by their id. A frame for one that was answered already is no surprise, and means nothing."""

    def __missing__(self, stream_id: int) -> HTTPStream:
        return _GONE


_GONE: Final = _Gone()
# Hypercorn's own end to a connection is not this one's: it resets streams as if nothing were wrong with that.
_NEVER: Final = WorkerContext(None)


class Http2(H2Protocol):
    """One connection's frames and streams. `send` takes what is to be sent, and hears when all are idle or it ends.

    Whoever runs it calls `farewell` beside it, and `forget` at the end.
    """

    streams: dict[int, HTTPStream | WSStream]

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        work: Work,
        circumstances: Circumstances,
        send: Callable[[Event], Awaitable[None]],
        *,
        coming: Coming = COMING,
    ) -> None:
        client, server, secure = circumstances.client, circumstances.server, circumstances.secure
        super().__init__(app, config, _NEVER, work, ConnectionState({}), secure, client, server, send)
        self._coming = coming
        self._held = 0
        self._taking = False
        self._frames = Frames(block=BLOCK_LIMIT)
        self._last: int | None = None  # beyond it no stream is answered
        self._heard = trio.Event()
        self._still = trio.Event()
        self._parting = trio.CancelScope()

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        """Begin. Hypercorn's own streams raise KeyError, and so end all others, for DATA after the answer."""
        self.streams = _Streams()
        await super().initiate(headers, settings)

    async def handle(self, event: Event) -> None:
        """Take in what came. Once the peer has gone, no answer waits any longer for room to be sent."""
        if isinstance(event, RawData):
            await self._take(event.data)
            return
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in tuple(self.stream_buffers.values()):
                await buffer.close()
            self._parting.cancel()

    async def farewell(self, ending: trio.Event) -> None:
        """Once `ending` is set, end the connection so that no request of the client's is lost (RFC 9113, 6.8).

        It is told to begin nothing more here, at a moment when nothing is under way if there is one soon: some clients
        give up what they wait for when they hear that. What it sent before it heard is answered.
        """
        with self._parting:
            await ending.wait()
            with trio.move_on_after(YOUNG_SECONDS):
                await self.still()
            await self.leave()

    async def leave(self) -> None:
        """Ask for nothing more, hear what was sent before the client heard that, and part."""
        await self.send(RawData(goodbye(EVERY_STREAM)))
        with suppress(h2.exceptions.ProtocolError):  # it is closed already
            self.connection.ping(_HEARD)
        await self._flush()
        with trio.move_on_after(HEARD_SECONDS):
            await self._heard.wait()
        await self.part()

    async def part(self) -> None:
        """Answer what has come, and nothing that comes from now on; the connection ends with the last answer."""
        if self._last is None:
            self._last = self.connection.highest_inbound_stream_id
            await self.send(RawData(goodbye(self._last)))
        await self._settle()

    async def still(self) -> None:
        """Wait until no stream is open and every answer has been sent."""
        while not self._is_still():
            self._still = trio.Event()
            await self._still.wait()

    def forget(self) -> None:
        """The connection is over: nothing of it waits any more."""
        self._hold(0)

    async def _take(self, data: bytes) -> None:
        try:
            whole = self._frames.take(data)
            self._hold(self._frames.held)
            if self._held and self._coming.full(self._held):
                raise Unbearable(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        except Unbearable as refused:
            with suppress(h2.exceptions.ProtocolError):
                self.connection.close_connection(refused.code)
            await self._flush()
            await self.send(Closed())
            return
        self._taking = True  # what came is counted by its numbers already, and has no streams yet
        await super().handle(RawData(whole))
        self._taking = False
        if self._frames.left and not self.closed:
            await self.part()
        await self._settle()
        if not self.closed:
            # Of a stream that was reset Hypercorn says nothing, and it would never be idle again.
            await self.send(Updated(idle=self.idle))

    def _hold(self, held: int) -> None:
        self._coming.held += held - self._held
        self._held = held

    def _is_still(self) -> bool:
        return self.idle and not self.stream_buffers and not self._taking

    async def _settle(self) -> None:
        if not self._is_still():
            return
        self._still.set()
        if self._last is not None and not self.closed:
            await self.send(Closed())

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.PingAckReceived) and event.ping_data == _HEARD:
                self._heard.set()
        await super()._handle_events(events)
        for event in events:
            if isinstance(event, h2.events.StreamReset):
                await self._let_go(event.stream_id)

    async def _let_go(self, stream_id: int) -> None:
        """Of a stream that was reset Hypercorn keeps what was to be sent, and its place among a thousand, for ever."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None:
            await buffer.close()
            self.priority.unblock(stream_id)
            await self.has_data.set()

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        await self._settle()

    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        await self._settle()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        stream_id = request.stream_id
        if self._last is not None and stream_id > self._last:
            self._reset(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        asgi = self.app
        try:
            require_readable(request.headers or (), ended=request.stream_ended is not None)
        except Malformed:
            self._reset(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return
        except Unreadable as refused:
            self.app = ASGIWrapper(ReplyResponse(text(refused.status, refused.sentence)))  # type: ignore[arg-type]
            # Whatever the method is, it is answered by a sentence: Hypercorn takes "connect" for a tunnel's.
            request.headers = [
                (name, b"POST" if name == b":method" else value) for name, value in request.headers or ()
            ]
        try:
            await super()._create_stream(request)
        finally:
            self.app = asgi

    def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        with suppress(h2.exceptions.ProtocolError):  # the client may have reset it already
            self.connection.reset_stream(stream_id, code)

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        # RFC 9113, 5.3.2: deprecated, and may be ignored. A tree of streams that strangers plant can be filled up.
        pass
