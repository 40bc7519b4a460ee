"""Conversations that strangers bend: each ends, gives its place back, and disturbs no other request (RFC 9112, 9113)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
import trio
from h2.config import H2Configuration
from starlette.types import Receive, Scope, Send

from gateway.serve.http2 import work
from tests.doubles.http2 import localhost, serving


def headers(path: str | bytes = "/", method: str | bytes = "GET") -> list[tuple[str | bytes, str | bytes]]:
    return [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]


async def respond(send: Send, body: bytes = b"done") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send)


async def after_a_while(scope: Scope, receive: Receive, send: Send) -> None:
    """As a front does that asks the store who is there, and then refuses without a look at the body."""
    await trio.sleep(0.1)
    await respond(send)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return localhost(tmp_path_factory.mktemp("tls"))


async def until_free(taken: Callable[[], int], seconds: float = 25) -> None:
    with trio.fail_after(seconds):
        while taken():
            await trio.sleep(0.01)


@dataclass
class Client:
    """A client of HTTP/2 that says whatever it is told to."""

    stream: trio.abc.Stream
    speaks: h2.connection.H2Connection
    heard: list[h2.events.Event] = field(default_factory=list)

    async def say(self) -> None:
        await self.stream.send_all(self.speaks.data_to_send())

    async def hear(self, kind: type[h2.events.Event], stream_id: int | None = None) -> h2.events.Event:
        """Wait for an event, of one stream if need be."""
        while True:
            for event in self.heard:
                if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", None)):
                    return event
            data = await self.stream.receive_some()
            if not data:
                raise ConnectionError("the connection was closed")
            self.heard += self.speaks.receive_data(data)
            await self.say()


@asynccontextmanager
async def speaking(port: int, window: int | None = None) -> AsyncIterator[Client]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True) as stream:
        speaks = h2.connection.H2Connection(
            H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        speaks.initiate_connection()
        if window is not None:
            speaks.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        client = Client(stream, speaks)
        await client.say()
        await client.hear(h2.events.RemoteSettingsChanged)
        yield client


async def test_an_answer_given_before_the_body_was_read_ends_its_connection(tmp_path: Path):
    """A body in more pieces than wait in the request's queue kept the connection, and its place, for ever."""
    async with serving(tmp_path, after_a_while) as (port, taken):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        body = b"1\r\nx\r\n" * 30 + b"0\r\n\r\n"
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        answer = b""
        while b"done" not in answer:
            answer += await stream.receive_some()
        await stream.aclose()
        await until_free(taken)


async def test_a_peer_that_never_opens_its_window_and_goes_leaves_nothing_behind(tmp_path, server):
    async with serving(tmp_path, at_once, server) as (port, taken):
        async with speaking(port, window=0) as client:
            client.speaks.send_headers(1, headers(), end_stream=True)
            await client.say()
            await client.hear(h2.events.ResponseReceived)
        await until_free(taken)


async def test_a_peer_that_stays_and_never_opens_its_window_is_dropped(tmp_path, server, monkeypatch):
    monkeypatch.setattr(work, "WRITE_SECONDS", 0.2)
    async with serving(tmp_path, at_once, server) as (port, taken), speaking(port, window=0) as client:
        client.speaks.send_headers(1, headers(), end_stream=True)
        await client.say()
        await until_free(taken)


async def test_a_request_that_outlives_its_peer_is_ended(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(work, "WRITE_SECONDS", 0.2)

    async def for_ever(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(tmp_path, for_ever) as (port, taken):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.1)
        await stream.aclose()
        await until_free(taken)


async def test_data_after_the_answer_disturbs_no_other_stream(tmp_path, server, caplog):
    """RFC 9113, 8.1: a server may answer before the request is whole, and must bear with what is still coming."""
    async with serving(tmp_path, at_once, server) as (port, _), speaking(port) as client:
        client.speaks.send_headers(1, headers(method="POST"))
        await client.say()
        await client.hear(h2.events.StreamEnded, 1)
        client.speaks.send_data(1, b"late")
        client.speaks.send_data(1, b"later", end_stream=True)
        client.speaks.send_headers(3, headers(), end_stream=True)
        await client.say()
        await client.hear(h2.events.StreamEnded, 3)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "odd",
    [
        headers(path=b"/\xff"),
        headers(method=b"G\xffT"),
        [(":method", "CONNECT"), (":authority", "localhost")],
    ],
)
async def test_a_request_that_cannot_be_read_is_reset_and_disturbs_no_other_stream(tmp_path, server, caplog, odd):
    """RFC 9113, 8.1.1: a stream error."""
    async with serving(tmp_path, at_once, server) as (port, _), speaking(port) as client:
        client.speaks.send_headers(1, odd, end_stream=True)
        client.speaks.send_headers(3, headers(), end_stream=True)
        await client.say()
        reset = await client.hear(h2.events.StreamReset, 1)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
        await client.hear(h2.events.StreamEnded, 3)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_message_of_scep_in_a_query_arrives_and_a_head_without_an_end_does_not(tmp_path, server):
    """S94: as long a target as HTTP/1.1 takes, its fields included. What is longer ends its connection."""
    heard: list[int] = []

    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(len(scope["query_string"]))
        await respond(send)

    async with serving(tmp_path, measure, server) as (port, taken):
        async with speaking(port) as client:
            client.speaks.send_headers(1, headers(path=b"/scep?" + b"x" * 60_000), end_stream=True)
            await client.say()
            await client.hear(h2.events.StreamEnded, 1)
        async with speaking(port) as client:
            client.speaks.send_headers(1, headers(path=b"/scep?" + b"x" * 70_000), end_stream=True)
            await client.say()
            await until_free(taken)
    assert heard == [60_000]


async def test_priorities_are_passed_by_however_many_there_are(tmp_path, server, caplog):
    """RFC 9113, 5.3.2. Hypercorn's tree of them takes a thousand."""
    async with serving(tmp_path, at_once, server) as (port, _), speaking(port) as client:
        for stream_id in range(3, 3003, 2):
            client.speaks.prioritize(stream_id, weight=5)
        client.speaks.send_headers(1, headers(), end_stream=True)
        await client.say()
        await client.hear(h2.events.StreamEnded, 1)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: !!!\r\n",
        b"Upgrade: WebSocket\r\nConnection: upgrade, close\r\n",
    ],
)
async def test_no_protocol_is_upgraded_to(tmp_path: Path, caplog, upgrade):
    """RFC 9110, 7.8: an upgrade may be ignored. Hypercorn's own were strangers' way to exceptions."""
    async with serving(tmp_path, at_once) as (port, _):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        answer = b""
        while part := await stream.receive_some():
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        await stream.aclose()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_streams_that_are_opened_and_reset_at_once_are_a_flood_that_ends(tmp_path, server):
    """CVE-2023-44487: each costs its client two frames, and the gateway a request that is not over with its stream."""
    begun = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        begun += 1
        await trio.sleep_forever()

    async def flood(client: Client) -> None:
        for stream_id in range(1, 4001, 2):
            client.speaks.send_headers(stream_id, headers(), end_stream=True)
            client.speaks.reset_stream(stream_id)
            await client.say()
        await client.hear(h2.events.ConnectionTerminated)

    async with serving(tmp_path, slow, server) as (port, _), speaking(port) as client:
        with pytest.raises((trio.BrokenResourceError, ConnectionError)):
            await flood(client)
        await client.stream.aclose()
        assert begun == work.MOST_AT_WORK
