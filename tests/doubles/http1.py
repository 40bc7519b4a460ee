"""HTTP/1.1 connections over real sockets, without a gateway behind them: an application that remembers, and raw bytes."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.fronts.early import Early
from gateway.fronts.limits import Coming
from gateway.serve.http1.connection import Connection
from gateway.serve.http1.hall import Circumstances, Hall, Patience
from gateway.serve.http1.outgoing import Outgoing
from gateway.serve.http1.watch import Watch
from gateway.serve.http1.wire import Plain, Tls
from gateway.serve.secure import SecureStream

HOST = b"Host: gateway.example\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"


@dataclass
class Remembering:
    """Reads each request to its end and answers 200 with its path; `came` is what reached it."""

    came: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.scopes.append(scope)
        self.came.append((scope["method"], scope["raw_path"], body))
        text = scope["raw_path"]
        headers = [(b"Content-Length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@dataclass
class Served:
    """A port, and the connections that stand."""

    port: int
    watch: Watch
    ending: trio.Event
    clients: list[trio.abc.AsyncResource] = field(default_factory=list)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def connect_securely(self) -> trio.SSLStream[trio.SocketStream]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = trio.SSLStream(await self.connect(), context, https_compatible=True)
        self.clients.append(stream)
        await stream.do_handshake()
        return stream

    def end(self) -> None:
        self.ending.set()
        self.watch.drain()

    async def until(self, connections: int) -> None:
        with trio.fail_after(15):
            while len(self.watch.open) != connections:
                await trio.sleep(0.01)


@asynccontextmanager
async def served(
    asgi: ASGIApp,
    patience: Patience | None = None,
    *,
    early: Early | None = None,
    coming: Coming | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    watch, ending, outgoing = Watch(), trio.Event(), Outgoing()
    hall = Hall(asgi, watch, patience or Patience(), ending, outgoing, early, coming or Coming())

    async def meet(stream: trio.SocketStream) -> None:
        client, server = stream.socket.getpeername(), stream.socket.getsockname()
        if context is None:
            await Connection(Plain(stream, outgoing), hall, Circumstances(client, server, False, None)).run()
            return
        secure = SecureStream(stream, context)
        await secure.do_handshake()
        await Connection(
            Tls(secure, outgoing), hall, Circumstances(client, server, True, {"tls_version": 0x0304})
        ).run()

    async with outgoing.sending(), trio.open_nursery() as nursery:
        nursery.start_soon(watch.keep)
        nursery.start_soon(hall.later.keep)
        listeners = await nursery.start(partial(trio.serve_tcp, meet, 0, host="127.0.0.1"))
        with trio.fail_after(30):
            server = Served(listeners[0].socket.getsockname()[1], watch, ending)
            yield server
            for each in server.clients:
                await trio.aclose_forcefully(each)
        nursery.cancel_scope.cancel()


async def everything(stream: trio.abc.ReceiveStream, seconds: float = 15) -> bytes:
    """What comes until the other side closes. Fails where it resets, or stays."""
    heard = b""
    with trio.fail_after(seconds):
        while part := await stream.receive_some():
            heard += part
    return heard


async def said(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send, and hear everything."""
    await stream.send_all(data)
    return await everything(stream)


async def until(stream: trio.abc.ReceiveStream, end: bytes, seconds: float = 15) -> bytes:
    """What comes until `end` has."""
    heard = b""
    with trio.fail_after(seconds):
        while not heard.endswith(end):
            part = await stream.receive_some()
            assert part, heard
            heard += part
    return heard


def answering(status: int, *parts: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> ASGIApp:
    """Answers at once, without a look at the body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for index, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": index < len(parts)})

    return app


class Waiting:
    """Waits for `go` before it answers, and says how its wait ended."""

    def __init__(self) -> None:
        self.began, self.go, self.ended = trio.Event(), trio.Event(), trio.Event()
        self.how = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.began.set()
        try:
            await self.go.wait()
            self.how = "answered"
        except trio.Cancelled:
            self.how = "cancelled"
            raise
        finally:
            self.ended.set()
        await answering(200, b"done")(scope, receive, send)


def reset(stream: trio.SocketStream) -> None:
    """Close as a process that dies with unread bytes does."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
