"""How a connection ends: whoever does as RFC 9113 says loses no request by it, and nobody stays for ever."""

from __future__ import annotations

import logging
import math
import ssl

import pytest
import trio
from starlette.types import Receive, Scope, Send

from gateway.fronts.limits import COMING
from gateway.serve.http2 import protocol
from tests.doubles.http2 import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    PING,
    RST_STREAM,
    Frame,
    Peer,
    frame,
    localhost,
    peer,
    serving,
)

EVERY = (1 << 31) - 1
LEAVING = frame(GOAWAY, payload=bytes(8))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return localhost(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for who has something under way."""
    monkeypatch.setattr(protocol, "YOUNG_SECONDS", 0.05)
    monkeypatch.setattr(protocol, "HEARD_SECONDS", math.inf)


@pytest.fixture
def patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not say that it has heard is waited for as long as a test takes."""
    monkeypatch.setattr(protocol, "YOUNG_SECONDS", math.inf)
    monkeypatch.setattr(protocol, "HEARD_SECONDS", math.inf)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"done"})


def of(stream: int):
    return lambda each: each.stream == stream and each.ends


def leaving(each: Frame) -> bool:
    return each.kind == GOAWAY


def at_last(each: Frame) -> bool:
    return each.kind == GOAWAY and each.last < EVERY


async def begun(client: Peer, stream: int) -> None:
    """A request whose body goes on; the connection has heard of it."""
    await client.say(client.request(stream, ends=False, method="POST"), frame(DATA, 0, stream, b"be"))
    await client.say(frame(PING, 0, 0, b"heard me"))
    await client.hear(lambda each: each.kind == PING and each.flags == ACK and each.payload == b"heard me")
    client.heard.clear()


async def until_free(taken) -> None:
    with trio.fail_after(25):
        while taken():
            await trio.sleep(0.01)


async def test_an_idle_connection_is_told_twice_and_closed(tmp_path, server, patiently) -> None:
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, _), peer(port) as client:
        await client.say(client.request(1))
        await client.hear(of(1))
        ending.set()
        told = [each.last for each in await client.hear_all() if leaving(each)]
    assert told == [EVERY, 1]


async def test_what_is_under_way_is_answered_to_its_end(tmp_path, server, soon) -> None:
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, _), peer(port) as client:
        await begun(client, 1)
        ending.set()
        assert (await client.hear(at_last)).last == 1
        await client.say(frame(DATA, END_STREAM, 1, b"gun"))
        heard = await client.hear_all()
    assert b"".join(each.payload for each in heard if each.kind == DATA) == b"begun"
    assert [each for each in heard if of(1)(each)]


async def test_a_client_is_told_when_nothing_of_its_is_under_way(tmp_path, server, patiently) -> None:
    """Some give up what they wait for when they hear a goodbye."""
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, _), peer(port) as client:
        await begun(client, 1)
        ending.set()
        await client.say(client.request(3))
        await client.hear(of(3))
        assert not [each for each in client.heard if leaving(each)]
        await client.say(frame(DATA, END_STREAM, 1))
        heard = await client.hear_all()
    kinds = [each.kind for each in heard]
    assert kinds.index(GOAWAY) > max(at for at, each in enumerate(heard) if each.ends)


async def test_what_was_sent_before_the_goodbye_was_heard_is_answered(tmp_path, server, patiently) -> None:
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, _), peer(port) as client:
        client.acknowledges = False
        ending.set()
        told = await client.hear(lambda each: each.kind == PING)
        streams = range(1, 61, 2)
        await client.say(*(client.request(stream) for stream in streams), frame(PING, ACK, 0, told.payload))
        heard = await client.hear_all()
    assert [each.last for each in heard if leaving(each)] == [EVERY, 59]
    assert {each.stream for each in heard if each.ends} == set(streams)


@pytest.mark.parametrize("path", ["/", "no path"])
async def test_what_came_with_the_rest_of_the_last_request_is_answered_too(tmp_path, server, soon, path) -> None:
    """The first is answered while the second lies behind it, in the same octets."""
    ending, before = trio.Event(), COMING.held

    async def once_it_is_full(scope: Scope, receive: Receive, send: Send) -> None:
        while scope["method"] == "POST" and COMING.held < before + 10:
            await trio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async with serving(tmp_path, once_it_is_full, server, ending=ending) as (port, taken), peer(port) as client:
        client.acknowledges = False
        await begun(client, 1)
        ending.set()
        told = await client.hear(lambda each: each.kind == PING)
        heard_it, rest = frame(PING, ACK, 0, told.payload), frame(DATA, 0, 1, b"x") * 40
        await client.say(heard_it + rest + client.request(3, path=path))
        heard = await client.hear_all()
        assert {each.stream for each in heard if each.ends} == ({1, 3} if path == "/" else {1})
        await until_free(taken)


async def test_a_client_that_never_says_that_it_heard_is_not_waited_for_long(
    tmp_path, server, soon, monkeypatch
) -> None:
    monkeypatch.setattr(protocol, "HEARD_SECONDS", 0.05)
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, taken), peer(port) as client:
        client.acknowledges = False
        ending.set()
        await client.hear_all()
        await until_free(taken)


async def test_what_comes_after_the_last_goodbye_is_refused_so_that_it_may_be_sent_again(
    tmp_path, server, soon, caplog
) -> None:
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending) as (port, _), peer(port) as client:
        await begun(client, 1)
        ending.set()
        await client.hear(at_last)
        reset = frame(RST_STREAM, 0, 5, bytes(3) + b"\x08")
        await client.say(client.request(3), client.request(5, ends=False), reset)
        refused = await client.hear(lambda each: each.kind == RST_STREAM and each.stream == 3)
        assert refused.code == 7  # REFUSED_STREAM
        await client.say(frame(DATA, END_STREAM, 1))
        heard = await client.hear_all()
    assert [each.stream for each in heard if each.ends] == [1]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_what_outlives_the_drain_is_ended_with_it(tmp_path, server, soon) -> None:
    ending = trio.Event()
    async with serving(tmp_path, echo, server, ending=ending, drain=1) as (port, taken), peer(port) as client:
        await begun(client, 1)
        ending.set()
        await client.hear_all()
        await until_free(taken)


async def test_a_client_that_says_goodbye_behind_its_request_gets_its_whole_answer(tmp_path, server) -> None:
    """RFC 9113, 6.8: streams that stand go on."""
    async with serving(tmp_path, echo, server) as (port, taken), peer(port) as client:
        await client.say(client.request(1), LEAVING)
        heard = await client.hear_all()
        assert b"".join(each.payload for each in heard if each.kind == DATA) == b"done"
        assert [each for each in heard if of(1)(each)]
        await until_free(taken)


async def test_a_client_that_says_goodbye_and_has_nothing_under_way_is_gone(tmp_path, server) -> None:
    async with serving(tmp_path, echo, server) as (port, taken), peer(port) as client:
        await client.say(LEAVING)
        await client.hear_all()
        await until_free(taken)


@pytest.mark.parametrize("odd", ["reset", "malformed", "answered"])
async def test_whoever_asks_for_nothing_is_idle_whatever_came_before(tmp_path, server, odd) -> None:
    """Frames that mean nothing keep no connection: it is told, and closed."""
    async with serving(tmp_path, echo, server, idle=1) as (port, taken), peer(port) as client:
        match odd:
            case "reset":
                await client.say(client.request(1, ends=False), frame(RST_STREAM, 0, 1, bytes(3) + b"\x08"))
            case "malformed":
                await client.say(client.request(1, path="no path"))
            case _:
                await client.say(client.request(1))

        async def babble() -> None:
            try:
                while True:
                    await client.say(frame(PING, 0, 0, b"anything"))
                    await trio.sleep(0.1)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(babble)
            with trio.fail_after(20):
                heard = await client.hear_all()
            nursery.cancel_scope.cancel()
        assert [each.last for each in heard if leaving(each)] == [EVERY, 1]
        await until_free(taken)


async def test_a_request_that_comes_as_its_connection_ends_for_idleness_is_answered(tmp_path, server, patiently):
    async with serving(tmp_path, echo, server, idle=1) as (port, taken), peer(port) as client:
        client.acknowledges = False
        told = await client.hear(lambda each: each.kind == PING)
        await client.say(client.request(1), frame(PING, ACK, 0, told.payload))
        heard = await client.hear_all()
        assert [each.last for each in heard if leaving(each)] == [EVERY, 1]
        assert [each for each in heard if of(1)(each)]
        await until_free(taken)


async def test_a_request_under_way_is_not_idle_however_long_it_takes(tmp_path, server) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(2)
        await echo(scope, receive, send)

    async with serving(tmp_path, slow, server, idle=1) as (port, _), peer(port) as client:
        await client.say(client.request(1))
        await client.hear(of(1))
