"""The listeners: accept, shake hands, give each connection to the protocol agreed on; every wait has a deadline.

HTTP/1.1 is ours (`http1`), HTTP/2 Hypercorn's with what that lacks (`http2`). Nothing of a request is read here.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import trio
from hypercorn.config import Config
from starlette.types import ASGIApp

from gateway.fronts.early import Early
from gateway.serve.asgi import Answering
from gateway.serve.http1.connection import Connection as Http1
from gateway.serve.http1.hall import Circumstances, Hall, Patience
from gateway.serve.http1.head import FIELDS_LIMIT
from gateway.serve.http1.outgoing import Outgoing
from gateway.serve.http1.watch import Watch
from gateway.serve.http1.wire import Plain, Tls
from gateway.serve.http2 import work
from gateway.serve.http2.connection import Connection as Http2
from gateway.serve.http2.frames import EVERY_STREAM
from gateway.serve.places import Places
from gateway.serve.proxies.arrival import DIRECT, Origin, arrive
from gateway.serve.proxies.believe import Believing, bare, marked, stripped
from gateway.serve.proxies.prefix import Address, BadPrefix
from gateway.serve.proxies.trusted import Trusted, trusted
from gateway.serve.secure import SecureStream
from gateway.serve.settings import Settings
from gateway.serve.tls import TlsFact, facts
from gateway.serve.workers.spread import Room, Turns

logger = logging.getLogger("muster.listener")

Stream: TypeAlias = trio.SocketStream | SecureStream

# How long a handshake may take while few connections are left: enough for a peer that means it, over two satellites.
SCARCE_SECONDS: Final = 3.0
# accept(2): Linux hands over what the network said of a connection that waited. It is that connection's end alone.
_NEVER_CAME: Final = frozenset(
    {
        errno.EAGAIN,  # another worker was quicker
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)
# What the kernel lacks when it cannot make another socket, and after which time it is asked again.
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_FULL_SECONDS: Final = 0.1
# A whole body may take as long as so many reads: the fronts' own caps on a body's time are shorter.
BODY_READS: Final = 5


class Door(trio.abc.Listener[Stream]):
    """Accepts connections while there is room for them: the rest wait in the kernel's backlog.

    With a `context` it accepts TLS, each connection under the context that is current at that moment; `context` may be
    replaced at any time, and connections that stand keep the one they began with. `turns`: others accept there as well.
    """

    def __init__(
        self, bound: socket.socket, room: int, context: ssl.SSLContext | None = None, turns: Turns | None = None
    ) -> None:
        bound.setblocking(False)
        self._bound = bound
        self.room = Room(room, turns)
        self.places = Places(room, lambda: self.room.value)
        self.context = context

    async def accept(self) -> Stream:
        """Wait for room, then for a connection. Whoever gets the stream releases `room` when it is done with it."""
        await self.room.acquire()
        try:
            accepted = await self._accepted()
        except BaseException:
            self.room.give_back()
            raise
        self.room.taken()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        if self.context is None:
            return stream
        # The handshake is the connection's own affair: a slow peer delays nobody.
        return SecureStream(stream, self.context)

    async def _accepted(self) -> socket.socket:
        while True:
            await trio.lowlevel.wait_readable(self._bound)
            await self.room.turn()
            try:
                return self._bound.accept()[0]
            except OSError as error:
                if error.errno == errno.EINVAL:
                    # The socket listens no more, for any process: the gateway ends, and says so to this one soon.
                    await trio.sleep_forever()
                if error.errno not in _NEVER_CAME:
                    raise

    async def aclose(self) -> None:
        """Stop accepting."""
        trio.lowlevel.notify_closing(self._bound)
        self._bound.close()


class Visit:
    """One connection: the handshake first, then the protocol that was agreed on in it.

    `proxies` are believed at this door; `theirs` is where their requests go: what their headers say is heard there, and
    what their connections began with is known.
    """

    __slots__ = ("_config", "_door", "_hall", "_proxies", "_theirs")

    def __init__(
        self,
        hall: Hall,
        config: Config,
        door: Door,
        *,
        proxies: Trusted | None = None,
        theirs: Hall | None = None,
    ) -> None:
        self._hall = hall
        self._proxies = proxies
        self._theirs = theirs or hall
        self._config = config
        self._door = door

    async def receive(self, stream: Stream) -> None:
        """Serve the connection until it ends; whatever happens in it ends this connection alone."""
        sock = _transport(stream).socket
        try:
            origin = DIRECT if self._proxies is None else await self._origin(stream, self._proxies)
            if origin is None:
                return
            client = origin.client or _address(sock.getpeername())
            if origin.heard:
                await self._converse(stream, self._theirs, origin, client)  # a proxy's connections are everybody's
                return
            places = self._door.places
            whose = places.take(client[0])
            if whose is None:
                return
            try:
                await self._converse(stream, self._theirs if origin.prefixed else self._hall, origin, client)
            finally:
                places.leave(whose)
        except* OSError:
            pass  # they have gone before they were asked who they are
        except* Exception:
            # A peer that finds a bug in a parser must not end the gateway.
            logger.exception("a connection failed")
        finally:
            # Closed by whoever served it; this is for all other ways here. It waits for nothing, so needs no scope.
            sock.close()
            self._door.room.release()

    async def _converse(self, stream: Stream, hall: Hall, origin: Origin, client: Address) -> None:
        if isinstance(stream, SecureStream):
            await self._receive_secure(stream, hall, origin, client)
        else:
            await Http1(Plain(stream, hall.outgoing), hall, _circumstances(stream, None, origin, client)).run()

    async def _origin(self, stream: Stream, proxies: Trusted) -> Origin | None:
        transport = _transport(stream)
        try:
            with trio.fail_after(self._config.ssl_handshake_timeout):
                return await arrive(transport, proxies)
        except (BadPrefix, trio.TooSlowError) as error:
            # Whoever comes from there and says nothing of it is a proxy that was set up otherwise.
            logger.warning("a proxy's connection was refused", extra={"cause": str(error) or "no PROXY header in time"})
            await trio.aclose_forcefully(transport)
            return None

    async def _receive_secure(self, stream: SecureStream, hall: Hall, origin: Origin, client: Address) -> None:
        told = await self._shake_hands(stream, origin, client[0])
        if told is None:
            return
        circumstances = _circumstances(stream.transport_stream, told, origin, client)
        if stream.selected_alpn_protocol() == "h2":
            await Http2(hall.asgi, self._config, stream, circumstances, hall.ending).run()
        else:
            await Http1(Tls(stream, hall.outgoing), hall, circumstances).run()

    async def _shake_hands(self, stream: SecureStream, origin: Origin, address: str) -> dict[str, TlsFact] | None:
        # A proxy's own connections are everybody's: none of them waits for a turn.
        early = None if origin.heard else self._hall.early
        try:
            patience = self._config.ssl_handshake_timeout
            if self._door.places.scarce:
                patience = min(patience, SCARCE_SECONDS)
            with trio.fail_after(patience):
                if early is not None:
                    # What it costs is spent when the first bytes are here, and in turn.
                    await trio.lowlevel.wait_readable(stream.transport_stream.socket)
                    if not await early.greet(address):
                        await trio.aclose_forcefully(stream)
                        return None
                await stream.do_handshake(spoken=early is not None)
            return facts(stream.conversation)
        except (trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
            # Scanners and health probes do this all day; it is worth a line to whoever looks for it.
            logger.debug("TLS handshake failed", extra={"cause": str(error.__cause__ or error) or type(error).__name__})
            await trio.aclose_forcefully(stream)
            return None


async def _accept(door: Door, connections: trio.Nursery, receive: Callable[[Stream], Awaitable[None]]) -> None:
    """As `trio.serve_listeners`, but that whoever receives closes: a second time costs as much as the first."""
    async with door:
        while True:
            try:
                stream = await door.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                # Nothing can be accepted before something else has ended.
                logger.warning("a connection cannot be accepted", extra={"cause": error.strerror})
                await trio.sleep(_FULL_SECONDS)
            else:
                connections.start_soon(receive, stream)


def _transport(stream: Stream) -> trio.SocketStream:
    return stream.transport_stream if isinstance(stream, SecureStream) else stream


def _circumstances(
    stream: trio.SocketStream, told: dict[str, TlsFact] | None, origin: Origin, client: Address
) -> Circumstances:
    """What is known of a connection; raises OSError where it has gone already."""
    server = origin.server or _address(stream.socket.getsockname())
    return Circumstances(client, server, told is not None, told)


def _address(name: tuple[str, int]) -> Address:
    """Host and port; IPv6's names have two parts more."""
    return name[0], name[1]


def configuration(settings: Settings) -> Config:
    """Hypercorn's own settings. It logs nothing: the application's outermost layer does."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("muster.http")
    config.include_server_header = False
    config.h2_max_header_list_size = FIELDS_LIMIT
    # 128 streams of a connection share one TCP window; the caps on bodies hold for each of them.
    config.h2_max_concurrent_streams = 128
    config.ssl_handshake_timeout = settings.handshake_seconds
    config.keep_alive_timeout = settings.idle_seconds
    config.read_timeout = settings.read_seconds
    # A device that enrolls a fleet keeps its connection for as long as it likes (E18). At a limit Hypercorn would drop
    # what is under way; before this one there are no numbers left for streams.
    config.keep_alive_max_requests = EVERY_STREAM
    config.graceful_timeout = settings.drain_seconds
    return config


def patience(settings: Settings) -> Patience:
    """How long HTTP/1.1 waits for its peers."""
    read = float(settings.read_seconds)
    return Patience(settings.idle_seconds, settings.head_seconds, read, BODY_READS * read, work.WRITE_SECONDS)


def _theirs(
    hall: Hall, asgi: ASGIApp, proxies: Trusted, issuers: Callable[[], frozenset[bytes]], answering: Answering
) -> Hall:
    """What the connections of those proxies share at one door."""
    known = marked(asgi) if proxies.prefixed else asgi
    if not proxies.heard:
        return replace(hall, asgi=stripped(known))
    # Where it stands in its headers whose request it is, nothing is answered before they are read.
    early = hall.early if proxies.prefixed and not proxies.forwarded else None
    soon = None if early is None else early.behind_tls()
    return replace(hall, asgi=Believing(known, proxies, issuers, answering), early=soon)


async def listen(
    asgi: ASGIApp,
    settings: Settings,
    doors: Sequence[Door],
    ending: trio.Event,
    *,
    early: Early | None = None,
    issuers: Callable[[], frozenset[bytes]] = frozenset,
    answering: Answering = bare,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept at `doors` until `ending` is set, then let open requests finish for `limits.drain-seconds`.

    `early` answers requests that overload refuses before they are read. `issuers` gives the authorities (DER) whose
    certificates a proxy may say that a client has; what a proxy says and is not believed is refused by `answering`.
    Owns every connection: they run in a nursery of this function and are gone when it returns.
    """
    config = configuration(settings)
    watch = Watch()
    outgoing = Outgoing()
    hall = Hall(stripped(asgi), watch, patience(settings), ending, outgoing, early)
    async with outgoing.sending(), trio.open_nursery() as watching:
        watching.start_soon(watch.keep)
        watching.start_soon(hall.later.keep)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                for door in doors:
                    proxies = trusted(settings, https=door.context is not None)
                    theirs = None if proxies is None else _theirs(hall, asgi, proxies, issuers, answering)
                    receive = Visit(hall, config, door, proxies=proxies, theirs=theirs).receive
                    accepting.start_soon(_accept, door, connections, receive)
                task_status.started()
                await ending.wait()
                accepting.cancel_scope.cancel()
            # Idle connections wait for this, and end.
            watch.drain()
            connections.cancel_scope.deadline = trio.current_time() + settings.drain_seconds
        watching.cancel_scope.cancel()
