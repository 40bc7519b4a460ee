"""A web server for tests, on loopback, that answers every request with bytes of the test's choice."""

import ssl
from contextlib import asynccontextmanager

import trio


class Webserver:
    """`port` to reach it at; `seen` holds the heads of the requests that came."""

    def __init__(self, port):
        self.port = port
        self.seen = []


def plain(body, *, status="200 OK", headers=()):
    """A whole answer with its length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def webserver(answer, *, host="127.0.0.1", port=0, tls: ssl.SSLContext | None = None):
    """Serve until the block ends. `answer` is bytes, or a function of the request's path that gives bytes, or an async
    function of (path, stream) that writes for itself."""
    async with trio.open_nursery() as nursery:

        async def serve(stream):
            if tls is not None:
                stream = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            try:
                await speak(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

        async def speak(stream):
            head = b""
            while b"\r\n\r\n" not in head:
                more = await stream.receive_some(65536)
                if not more:
                    return
                head += more
                if head[0] == 0x16:  # a TLS ClientHello where none is expected: say what we have to say anyway
                    await stream.send_all(plain(b""))
                    return
            server.seen.append(head.decode("latin-1"))
            path = head.split(b" ", 2)[1].decode("latin-1")
            if isinstance(answer, bytes):
                await stream.send_all(answer)
                return
            said = answer(path) if answer.__code__.co_argcount == 1 else await answer(path, stream)
            if isinstance(said, bytes):
                await stream.send_all(said)

        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(serve, port, host=host, task_status=task_status)
        )
        server = Webserver(listeners[0].socket.getsockname()[1])
        yield server
        nursery.cancel_scope.cancel()
