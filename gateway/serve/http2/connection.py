"""One connection of HTTP/2, once hands are shaken: its octets, its idle time and its end. No request is read here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.serve.http1.hall import Circumstances
from gateway.serve.http2 import work
from gateway.serve.http2.protocol import Http2
from gateway.serve.http2.work import Work
from gateway.serve.secure import SecureStream

CLOSE_SECONDS: Final = 2.0


class Connection(TCPServer):
    """One connection, as Hypercorn serves it. Once `ending` is set it ends, and loses no request by that.

    Hypercorn tells the application nothing of TLS, and its writes are shielded without an end.
    """

    stream: SecureStream  # type: ignore[assignment]  # Hypercorn sends, receives and closes, as any stream does
    protocol: Http2  # type: ignore[assignment]

    def __init__(
        self,
        asgi: ASGIApp,
        config: Config,
        stream: SecureStream,
        circumstances: Circumstances,
        ending: trio.Event,
    ) -> None:
        told = with_tls(asgi, circumstances.tls)
        super().__init__(wrapped(told), config, WorkerContext(None), ConnectionState({}), stream)  # type: ignore[arg-type]
        self._circumstances = circumstances
        self._ending = ending
        self._gone = False
        self._idle = False
        self._work = Work(self._drop)

    async def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            async with self._work as self._task_group:
                self.protocol = Http2(self.app, self.config, self._work, self._circumstances, self.protocol_send)
                try:
                    await self.protocol.initiate()
                    await self.protocol_send(Updated(idle=True))
                    self._work.spawn(self.protocol.farewell, self._ending)
                    await self._read_data()
                finally:
                    self.protocol.forget()
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol made. A peer that does not read is given up after `WRITE_SECONDS`."""
        match event:
            case RawData():
                await self._write(event.data)
            case Closed():
                await self._close()
                await self.protocol.handle(Closed())
            case Updated():
                await self._rest(idle=self.protocol.idle and not self._gone)

    async def _rest(self, *, idle: bool) -> None:
        if idle == self._idle:
            return  # whoever keeps saying nothing of weight is idle all the same
        self._idle = idle
        if idle:
            await self.idle_task.restart(self._task_group, self._idle_timeout)
        else:
            await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        await trio.sleep(self.config.keep_alive_timeout)
        with trio.CancelScope(shield=True):
            await self.protocol.leave()
        with trio.move_on_after(work.WRITE_SECONDS):
            await self.protocol.still()
        await self._initiate_server_close()

    async def _read_data(self) -> None:
        await super()._read_data()
        # The peer has closed. Hypercorn would wait for its own idle time to run out before it lets the socket go.
        self._gone = True
        await self._rest(idle=False)
        self._work.end_soon()

    async def _drop(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _write(self, data: bytes) -> None:
        try:
            async with self.send_lock:
                with trio.fail_after(work.WRITE_SECONDS):
                    await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, trio.TooSlowError):
            # Busy: another task is closing it just now.
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    async def _close(self) -> None:
        # TLS says goodbye before it closes, which a peer that does not read can hold up.
        with trio.move_on_after(CLOSE_SECONDS):
            await super()._close()


def wrapped(asgi: ASGIApp) -> ASGIWrapper:
    """The application as Hypercorn calls it. Both speak ASGI, each in types of its own."""
    return ASGIWrapper(asgi)  # type: ignore[arg-type]


def with_tls(asgi: ASGIApp, facts_of_peer: Mapping[str, object] | None) -> ASGIApp:
    """The application, told of one connection's TLS facts as `scope["extensions"]["tls"]`."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["extensions"]["tls"] = facts_of_peer
        await asgi(scope, receive, send)

    return told
