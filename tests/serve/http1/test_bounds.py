"""What a stranger can hold of an HTTP/1.1 connection's memory and time, and requests that come just as time is up."""

from __future__ import annotations

import gc
import os
import select

import pytest
import trio
import trio.testing

from gateway.fronts.limits import COMING_SHORT, Coming
from gateway.serve.http1 import connection
from gateway.serve.http1.connection import Connection
from gateway.serve.http1.hall import Patience
from gateway.serve.http1.head import KNOWING, Unreadable
from gateway.serve.http1.turn import Turn
from gateway.serve.http1.watch import Watched
from gateway.serve.http1.wire import Plain
from tests.doubles import http1 as doubles
from tests.doubles.http1 import GET, HOST, LAST, Remembering, Served, Waiting, answering, everything, served, until

POST = b"POST /p HTTP/1.1\r\n" + HOST


async def test_an_empty_line_in_the_same_read_as_a_body_begins_no_request() -> None:
    """RFC 9112, 2.2: old clients end a body with one. The connection is idle behind it: no 408 when it stays so."""
    app = Remembering()
    async with served(app, Patience(head=0.3)) as server, await server.connect() as stream:
        await stream.send_all(POST + b"Content-Length: 1\r\n\r\na\r\n")
        await until(stream, b"/p")
        await trio.sleep(1.2)  # longer than a head may take, with the time until somebody looks
        await stream.send_all(LAST)
        heard = await everything(stream)
    assert b"200 OK" in heard
    assert b"408" not in heard


async def test_in_a_drain_whoever_ended_a_body_with_an_empty_line_is_idle_as_others() -> None:
    async with served(Remembering()) as server, await server.connect() as stream:
        await stream.send_all(POST + b"Content-Length: 1\r\n\r\na\r\n")
        await until(stream, b"/p")
        server.end()
        assert await everything(stream) == b""


async def test_a_new_connection_must_begin_as_soon_as_a_head_must_end() -> None:
    async with served(Remembering(), Patience(head=0.3)) as server, await server.connect() as stream:
        assert await everything(stream) == b""


async def test_whoever_has_asked_once_may_be_idle_for_longer_than_a_head_takes() -> None:
    async with served(Remembering(), Patience(head=0.3)) as server, await server.connect() as stream:
        for _ in range(2):
            await stream.send_all(GET)
            await until(stream, b"/")
            await trio.sleep(1)


async def _aged(server: Served, stream: trio.SocketStream) -> Watched:
    """Have it answered once, and look as if that were long ago. Its other end."""
    await stream.send_all(GET)
    await until(stream, b"/")
    await trio.testing.wait_all_tasks_blocked(0.02)
    (one,) = server.watch.open
    one.began -= 5
    return one


def _asked(stream: trio.SocketStream, one: Watched) -> None:
    """Another request lies in the socket of its other end. Nothing is awaited, so that nobody has read it."""
    os.write(stream.socket.fileno(), GET)
    poll = select.poll()
    poll.register(one.descriptor, select.POLLIN)
    assert poll.poll(5000)


@pytest.mark.parametrize("asked", ["before", "after"])
@pytest.mark.parametrize("drains", [True, False])
async def test_a_request_that_came_just_as_the_time_was_up_is_answered(drains: bool, asked: str) -> None:
    """The request lay in the socket when the connection was found idle, or a moment later, when its task heard of it."""
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        one = await _aged(server, stream)
        if asked == "before":
            _asked(stream, one)
        if drains:
            server.end()
        else:
            one.overdue()
        if asked == "after":
            _asked(stream, one)
        heard = await until(stream, b"/")
    assert heard.startswith(b"HTTP/1.1 200 OK")
    assert (b"\r\nConnection: close\r\n" in heard) is drains


@pytest.mark.parametrize("drains", [True, False])
async def test_bytes_that_are_never_read_keep_no_connection(monkeypatch: pytest.MonkeyPatch, drains: bool) -> None:
    """RFC 8446, 4.6.3: whoever asks for new keys and does not read is waited for within TLS, and no request comes."""

    class Blocked(Plain):
        async def read(self) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

    monkeypatch.setattr(doubles, "Plain", Blocked)
    async with served(Remembering(), Patience(idle=0.1)) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await server.until(1)
        if drains:
            server.end()
        await server.until(0)


async def test_in_a_drain_a_request_that_waits_behind_another_is_answered() -> None:
    """RFC 9112, 9.3.2: they came together, before anybody said that the connection ends."""
    app = Waiting()
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(GET + POST + b"Content-Length: 1\r\n\r\na")
        await app.began.wait()
        (one,) = server.watch.open
        assert isinstance(one, Connection)
        one.began -= 5
        app.go.set()
        while one._turn is not None:  # between the two
            await trio.sleep(0)
        one.drain(trio.current_time())
        server.end()
        heard = await everything(stream)
    assert heard.count(b"HTTP/1.1 200") == 2


class Early:
    """Tells everybody to come later."""

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        return b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"


async def test_in_a_drain_whoever_is_heard_late_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """P16: its request lies in the kernel until it is heard; that the gateway ends meanwhile does not lose it."""
    monkeypatch.setattr(connection, "IMPATIENT_SECONDS", 3.0)  # the end comes before it, however slow the machine is
    app, early = Remembering(), Early()
    async with served(app, early=early) as server, await server.connect() as stream:  # type: ignore[arg-type]
        await stream.send_all(GET)
        await until(stream, b"\r\n\r\n")
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.05)
        (one,) = server.watch.open
        one.began -= 5
        server.end()
        heard = await everything(stream)
    assert heard.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in heard


async def test_an_idle_connection_holds_nothing_of_its_last_request() -> None:
    async with served(answering(200, b"done")) as server, await server.connect() as stream:
        await stream.send_all(POST + b"Content-Length: 30000\r\n\r\n" + b"x" * 30_000)
        await until(stream, b"done")
        await trio.testing.wait_all_tasks_blocked(0.02)
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, Turn)]


@pytest.mark.parametrize("end", [b"", LAST, b"nonsense\r\n\r\n"])
async def test_a_connection_that_has_ended_knows_nothing_any_more(end: bytes) -> None:
    before = KNOWING.held
    async with served(Remembering()) as server:
        async with await server.connect() as stream:
            await stream.send_all(GET)
            await until(stream, b"/")
            assert KNOWING.held > before
            await stream.send_all(end)
        await server.until(0)
        assert KNOWING.held == before


REFUSED = {
    "as a head": b"GET / HTTP/2.7\r\n\r\n",
    "for its fields": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "as a body": POST + b"Transfer-Encoding: chunked\r\n\r\nx",
    "as a body that ends": POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_refusals_leave_no_cycles_whatever_they_were_raised_for(data: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        async with served(Remembering()) as server:
            for _ in range(20):
                async with await server.connect() as stream:
                    await stream.send_all(data)
                    await stream.send_eof()
                    await everything(stream)
            await server.until(0)
            kept = [each for each in gc.get_objects() if isinstance(each, Unreadable | Turn)]
    finally:
        gc.enable()
    assert len(kept) < 5  # the last connections may still be closing


async def test_heads_that_do_not_end_share_so_much_memory_and_no_more() -> None:
    """P16: above half of it the long ones are refused, above all of it every one; whole requests are none of them."""
    coming = Coming(8 * COMING_SHORT)
    long = b"GET /" + b"a" * 2 * COMING_SHORT
    async with served(Remembering(), coming=coming) as server:
        streams = [await server.connect() for _ in range(3)]
        await streams[0].send_all(long)
        with trio.fail_after(10):
            while coming.held < len(long):
                await trio.sleep(0.01)
        await streams[1].send_all(long)
        heard = await everything(streams[1])
        assert heard.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 2\r\n" in heard
        for piece in (GET[:9], GET[9:]):
            await streams[2].send_all(piece)
            await trio.sleep(0.05)
        assert (await until(streams[2], b"/")).startswith(b"HTTP/1.1 200 ")
        for each in streams:
            await each.aclose()
        await server.until(0)
    assert coming.held == 0
