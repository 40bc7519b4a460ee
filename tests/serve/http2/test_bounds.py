"""What strangers may have the gateway hold: it is counted while it waits, bounded, and let go at the end."""

from __future__ import annotations

import logging
import ssl

import pytest
import trio
from starlette.types import Receive, Scope, Send

from gateway.fronts.limits import COMING
from gateway.serve.http2 import work
from gateway.serve.http2.work import Inbox
from tests.doubles.http2 import (
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    Frame,
    frame,
    localhost,
    peer,
    serving,
)

FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 6, 11


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return localhost(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def let_go():
    """Nothing is counted any more when all is over."""
    before = COMING.held
    yield
    assert COMING.held == before


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def leaving(each: Frame) -> bool:
    return each.kind == GOAWAY


async def until_held(octets: int) -> None:
    with trio.fail_after(20):
        while COMING.held != octets:
            await trio.sleep(0.01)


async def test_a_frame_that_is_too_long_is_refused_before_it_comes(tmp_path, server) -> None:
    async with serving(tmp_path, at_once, server) as (port, _), peer(port) as client:
        await client.say(b"\xff\xff\xfe\0\0" + bytes(4))
        assert (await client.hear(leaving)).code == FRAME_SIZE_ERROR
        await client.hear_all()


async def test_a_frame_and_a_head_without_their_ends_are_counted_until_they_go(tmp_path, server) -> None:
    before = COMING.held
    async with serving(tmp_path, at_once, server) as (port, _):
        async with peer(port) as client:
            await client.say(frame(HEADERS, 0, 1, bytes(10_000)), frame(CONTINUATION, 0, 1, bytes(5_000))[:-1])
            await until_held(before + 10_009 + 5_008)
        await until_held(before)


async def test_heads_without_an_end_find_no_room_beyond_that_of_the_process(tmp_path, server, monkeypatch) -> None:
    monkeypatch.setattr(COMING, "_most", COMING.held + 8_000)
    async with serving(tmp_path, at_once, server) as (port, _), peer(port) as client:
        await client.say(frame(HEADERS, 0, 1, bytes(10_000)))
        assert (await client.hear(leaving)).code == ENHANCE_YOUR_CALM
        await client.hear_all()


async def test_streams_that_were_reset_leave_nothing_behind(tmp_path, server, monkeypatch, caplog) -> None:
    """A thousand of them were the end of a connection, and of what was under way on it."""
    monkeypatch.setattr(work, "RESET_SECONDS", 0)
    monkeypatch.setattr(work, "MOST_AT_WORK", 5_000)

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await trio.sleep_forever()
        await at_once(scope, receive, send)

    async with serving(tmp_path, waits, server) as (port, _), peer(port) as client:
        for stream in range(1, 2_401, 2):
            request = client.request(stream, ends=False, method="POST")
            await client.say(request, frame(RST_STREAM, 0, stream, bytes(3) + b"\x08"))
        await client.say(client.request(2_401))
        await client.hear(lambda each: each.ends)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_body_that_waits_for_the_application_is_counted_until_it_is_read(tmp_path, server) -> None:
    before, reads = COMING.held, trio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await reads.wait()
        assert len((await receive())["body"]) == 9_000
        await at_once(scope, receive, send)

    async with serving(tmp_path, waits, server) as (port, _), peer(port) as client:
        await client.say(client.request(1, ends=False, method="POST"), frame(DATA, 0, 1, bytes(9_000)))
        await client.say(frame(DATA, 0, 1, bytes(500)))
        await until_held(before + 9_500)
        reads.set()
        await client.hear(lambda each: each.ends)
        await until_held(before)
        await client.say(frame(DATA, END_STREAM, 1, bytes(100)))
        await client.say(client.request(3))
        await client.hear(lambda each: each.stream == 3 and each.ends)


async def test_bodies_that_wait_find_no_room_beyond_that_of_the_process(tmp_path, server, monkeypatch) -> None:
    monkeypatch.setattr(COMING, "_most", COMING.held + 20_000)

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(tmp_path, waits, server) as (port, taken), peer(port) as client:
        await client.say(client.request(1, ends=False, method="POST"), frame(DATA, 0, 1, bytes(16_000)))
        await client.say(frame(DATA, 0, 1, bytes(10_000)))
        await client.hear_all()
        with trio.fail_after(60):
            while taken():
                await trio.sleep(0.01)


async def test_what_comes_when_nobody_listens_any_more_is_not_counted() -> None:
    before = COMING.held
    inbox = Inbox(2, COMING)
    assert await inbox.put({"type": "http.request", "body": b"four", "more_body": True})
    assert COMING.held == before + 4
    inbox.close()
    assert await inbox.put({"type": "http.request", "body": b"four", "more_body": True})
    assert COMING.held == before


@pytest.mark.parametrize(
    ("method", "fields", "status"), [("get", 0, "501"), ("connect", 0, "501"), ("GET", 101, "431"), ("GET", 100, "200")]
)
async def test_a_head_is_answered_as_http_1_1_answers_it(tmp_path, server, method, fields, status) -> None:
    async with serving(tmp_path, at_once, server) as (port, _), peer(port) as client:
        block = client.block(*[("x-field", "value")] * fields, method=method)
        await client.say(frame(HEADERS, 5, 1, block), client.request(3))
        assert (await client.hear(lambda each: each.kind == HEADERS and each.stream == 1)).status == status
        assert (await client.hear(lambda each: each.kind == HEADERS and each.stream == 3)).status == "200"
        await client.hear(lambda each: each.stream == 1 and each.ends)
