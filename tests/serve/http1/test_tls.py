"""The same over TLS: records that come together, a peer that ends, answers that are long or unread."""

from __future__ import annotations

import os
import select
import ssl

import pytest
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from bench.front import certificate
from gateway.serve.http1.hall import Patience
from gateway.serve.tls import server_context
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


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_context(*certificate(tmp_path_factory.mktemp("tls")), ())


async def test_requests_come_in_records_of_their_own_or_share_one(context: ssl.SSLContext):
    app = Remembering()
    pieces = [GET, GET[:9], GET[9:] + GET, b"POST /b HTTP/1.1\r\n" + HOST + b"Content-Length: 40000\r\n\r\n"]
    pieces += [b"x" * 20_000, b"x" * 20_000 + LAST]
    async with served(app, context=context) as server:
        stream = await server.connect_securely()
        for piece in pieces:
            await stream.send_all(piece)
        heard = await everything(stream)
    assert [path for _, path, _ in app.came] == [b"/", b"/", b"/", b"/b", b"/last"]
    assert heard.count(b"HTTP/1.1 200 OK") == 5
    assert app.scopes[0]["scheme"] == "https"
    assert app.scopes[0]["extensions"]["tls"] == {"tls_version": 0x0304}


async def shaken(server: Served) -> tuple[trio.SocketStream, ssl.SSLObject, ssl.MemoryBIO]:
    """A connection whose records are written one by one and sent together."""
    stream = await server.connect()
    server.clients.append(stream)
    into, out_of = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    conversation = context.wrap_bio(into, out_of)
    while True:
        try:
            conversation.do_handshake()
        except ssl.SSLWantReadError:
            await stream.send_all(out_of.read())
            into.write(await stream.receive_some(65536))
        else:
            return stream, conversation, out_of


async def test_records_of_one_octet_are_taken_together(context: ssl.SSLContext):
    """Each by itself would be a round of the loop: a stranger's 23 octets for 40 microseconds."""
    taken: list[int] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(len(message["body"]))
            more = message["more_body"]
        await answering(200, b"done")(scope, receive, send)

    async with served(counting, context=context) as server:
        stream, conversation, out_of = await shaken(server)
        conversation.write(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 20000\r\nConnection: close\r\n\r\n")
        for _ in range(20_000):
            conversation.write(b"x")
        await stream.send_all(out_of.read())
        await everything(stream)
    assert sum(taken) == 20_000
    assert len(taken) < 2_000


@pytest.mark.parametrize("behind", [b"", b"\x17\x03\x03\x00\x20" + b"x" * 32])
async def test_a_goodbye_that_comes_with_a_request_ends_the_connection_behind_it(
    context: ssl.SSLContext, behind: bytes
):
    app = Remembering()
    async with served(app, Patience(idle=600), context=context) as server:
        stream, conversation, out_of = await shaken(server)
        conversation.write(GET)
        conversation.write(GET)
        with pytest.raises(ssl.SSLWantReadError):
            conversation.unwrap()
        await stream.send_all(out_of.read() + behind)
        await everything(stream)
    assert len(app.came) == 2


async def test_requests_before_a_broken_record_are_answered(context: ssl.SSLContext):
    app = Remembering()
    async with served(app, Patience(idle=600), context=context) as server:
        stream, conversation, out_of = await shaken(server)
        conversation.write(GET)
        await stream.send_all(out_of.read() + b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await everything(stream)
    assert len(app.came) == 1


async def test_in_a_drain_a_request_that_comes_when_its_connection_was_found_idle_is_answered(context: ssl.SSLContext):
    app = Remembering()
    async with served(app, context=context) as server:
        stream, conversation, out_of = await shaken(server)
        conversation.write(GET)
        await stream.send_all(out_of.read())
        await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.02)
        (one,) = server.watch.open
        one.began -= 5
        conversation.write(GET)
        server.end()
        # Nothing was awaited: the connection's task has not heard yet that it is to end.
        os.write(stream.socket.fileno(), out_of.read())
        poll = select.poll()
        poll.register(one.descriptor, select.POLLIN)
        assert poll.poll(5000)
        await everything(stream)
    assert len(app.came) == 2


async def test_a_long_answer_arrives_whole_and_the_connection_ends_with_a_goodbye(context: ssl.SSLContext):
    async with served(answering(200, b"x" * 3_000_000), context=context) as server:
        stream = await server.connect_securely()
        await stream.send_all(LAST)
        heard = await everything(stream)
    assert len(heard.partition(b"\r\n\r\n")[2]) == 3_000_000


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_ends_is_gone_and_not_worked_for(context: ssl.SSLContext, abruptly: bool):
    app = Waiting()
    async with served(app, context=context) as server:
        stream = await server.connect_securely()
        await stream.send_all(GET)
        await app.began.wait()
        if abruptly:
            reset(stream.transport_stream)
        else:
            await stream.aclose()
        await app.ended.wait()
        assert app.how == "cancelled"
        await server.until(0)


async def test_a_peer_that_does_not_read_its_answer_is_given_up(context: ssl.SSLContext):
    finished: list[bool] = []

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(200, b"x" * 8_000_000)(scope, receive, send)
        finished.append(True)

    async with served(much, Patience(write=0.2), context=context) as server:
        stream = await server.connect_securely()
        await stream.send_all(GET)
        await server.until(1)
        await server.until(0)
        await trio.aclose_forcefully(stream)
    assert finished == [True]


async def test_a_refusal_is_heard_by_whoever_goes_on_sending(context: ssl.SSLContext):
    """RFC 9112, 9.6: what still comes is let in before the connection is closed."""
    async with served(answering(413, b"too long"), context=context) as server:
        stream = await server.connect_securely()
        await stream.send_all(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n")
        heard = await until(stream, b"too long")
        for _ in range(10):
            await stream.send_all(b"x" * 20_000)
        assert await everything(stream) == b""
    assert heard.startswith(b"HTTP/1.1 413")


async def test_no_request_outlives_a_connection_that_breaks(context: ssl.SSLContext):
    """Bytes that are no record of this connection."""
    app = Remembering()
    async with served(app, context=context) as server:
        stream = await server.connect_securely()
        await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await everything(stream.transport_stream)
        await server.until(0)
    assert app.came == []
