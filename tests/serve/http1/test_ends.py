"""What ends a connection, and what does not: peers that stop, go, wait or do not read, and a gateway that ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from starlette.types import Message, Receive, Scope, Send

from gateway.serve.http1.hall import Patience
from tests.doubles.http1 import (
    GET,
    HOST,
    LAST,
    Remembering,
    Served,
    Waiting,
    answering,
    everything,
    reset,
    served,
    until,
)


async def test_a_client_that_only_stopped_sending_gets_its_answer():
    """Half-closed: `nc -N`, and clients that say so what their request's end is."""
    app = Waiting()
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await stream.send_eof()
        await app.began.wait()
        await trio.sleep(0.5)  # it is looked at a few times
        app.go.set()
        assert (await everything(stream)).endswith(b"done")
    assert app.how == "answered"


async def test_a_client_that_stopped_sending_is_waited_for_so_long_and_no_longer():
    app = Waiting()
    async with served(app, Patience(write=0.2)) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await stream.send_eof()
        await app.ended.wait()
        assert app.how == "cancelled"
        await server.until(0)


async def test_a_client_that_is_gone_is_not_worked_for():
    app = Waiting()
    async with served(app) as server:
        stream = await server.connect()
        await stream.send_all(GET)
        await app.began.wait()
        reset(stream)
        await app.ended.wait()
        assert app.how == "cancelled"
        await server.until(0)


async def test_an_answer_that_has_begun_is_not_cancelled_and_hears_that_its_client_is_gone():
    heard: list[str] = []

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        heard.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"more"})
        heard.append("finished")

    async with served(streaming) as server:
        stream = await server.connect()
        await stream.send_all(GET)
        await until(stream, b"some\r\n")
        reset(stream)
        await server.until(0)
    assert heard == ["http.disconnect", "finished"]


async def test_a_peer_that_does_not_read_its_answer_is_given_up():
    begun, finished = trio.Event(), list[bool]()

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await answering(200, b"x" * 8_000_000)(scope, receive, send)
        finished.append(True)

    async with served(much, Patience(write=0.2)) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await begun.wait()
        await server.until(0)
    assert finished == [True]


async def test_an_idle_connection_ends_quietly():
    async with served(Remembering(), Patience(idle=0.2)) as server, await server.connect() as stream:
        assert await everything(stream) == b""


async def trickled(stream: trio.SocketStream, begins: bytes, pause: float) -> bytes:
    """Begin, then send an octet now and then, or none; what is heard up to a refusal's end."""

    async def trickle() -> None:
        await stream.send_all(begins)
        while pause:
            await stream.send_all(b"y")
            await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        heard = await until(stream, b"in time\n")
        nursery.cancel_scope.cancel()
    return heard


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_head_must_come_in_time_as_a_whole(pause: float):
    """Slowloris: whoever sends an octet now and then is no better than who sends none."""
    async with served(Remembering(), Patience(head=0.6)) as server, await server.connect() as stream:
        heard = await trickled(stream, b"GET / HTTP/1.1\r\nX: ", pause)
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in heard


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_body_must_go_on_and_come_to_its_end(pause: float):
    app = Remembering()
    patience = Patience(progress=0.3, body=0.6)
    async with served(app, patience) as server, await server.connect() as stream:
        heard = await trickled(stream, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\nabc", pause)
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert app.came == []


async def test_a_body_that_breaks_off_is_no_request():
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nabc")
        await stream.send_eof()
        assert (await everything(stream)).startswith(b"HTTP/1.1 400 ")
    assert app.came == []


async def settle(server: Served, connections: int) -> None:
    await server.until(connections)
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_in_a_drain_idle_connections_end_and_young_ones_get_one_more_request():
    app = Remembering()
    async with served(app) as server, await server.connect() as old, await server.connect() as young:
        for each in (old, young):
            await each.send_all(GET)
            await until(each, b"/")
        await settle(server, 2)
        ports = {each._circumstances.client[1]: each for each in server.watch.open}
        ports[old.socket.getsockname()[1]].began -= 5
        ports[young.socket.getsockname()[1]].began += 60  # however long it takes until it asks
        server.end()
        assert await everything(old) == b""
        await young.send_all(GET)
        heard = await everything(young)
    assert b"HTTP/1.1 200 OK" in heard
    assert b"\r\nConnection: close\r\n" in heard
    assert len(app.came) == 3


async def test_in_a_drain_a_young_connection_that_stays_silent_ends_too():
    async with served(Remembering()) as server, await server.connect() as stream:
        await settle(server, 1)
        server.end()
        assert await everything(stream) == b""


async def test_in_a_drain_a_request_in_work_is_answered_and_its_connection_ends():
    app = Waiting()
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await app.began.wait()
        server.end()
        app.go.set()
        heard = await everything(stream)
    assert b"\r\nConnection: close\r\n" in heard
    assert heard.endswith(b"done")


async def test_a_peer_that_stops_sending_while_it_hears_its_answer_is_not_cut_off():
    app = answering(200, b"do", b"ne")

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        async def slowly(message: Message) -> None:
            await send(message)
            if message.get("more_body"):  # the answer has begun with this, and not with its head
                await trio.sleep(1.2)

        await app(scope, receive, slowly)

    async with served(slow, Patience(write=0.1)) as server, await server.connect() as stream:
        await stream.send_all(LAST)
        await stream.send_eof()
        heard = await everything(stream)
    assert heard.endswith(b"0\r\n\r\n")
