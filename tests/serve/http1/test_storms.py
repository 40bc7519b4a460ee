"""What a storm may not have of HTTP/1.1: answers that nobody reads, and refusals as fast as one can ask (P16)."""

from __future__ import annotations

import pytest
import trio
from starlette.types import Receive, Scope, Send

from gateway.serve.http1 import connection
from gateway.serve.http1.connection import IMPATIENT_SECONDS
from gateway.serve.http1.hall import Patience
from tests.doubles.http1 import GET, Remembering, answering, served, until


class Listening:
    """Has nothing against anybody."""

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        return None


async def test_whoever_asks_and_does_not_read_is_not_answered_for_ever() -> None:
    """The kernel would take hundreds of answers; whoever then reads gets all of them."""
    asked = 0

    async def kilobytes(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await answering(200, b"x" * 4000)(scope, receive, send)

    async with served(kilobytes) as server, await server.connect() as stream:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(GET * 300)
        before = -1
        while before != asked or not asked:  # until it goes on no more
            before = asked
            await trio.sleep(0.5)
        assert asked < 200
        heard = b""
        with trio.fail_after(20):
            while heard.count(b"HTTP/1.1 200") < 300:
                heard += await stream.receive_some()
    assert asked == 300


async def test_whoever_never_reads_is_given_up() -> None:
    begun = trio.Event()

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await answering(200, b"x" * 100_000)(scope, receive, send)

    async with served(much, Patience(write=0.3)) as server, await server.connect() as stream:
        await stream.send_all(GET * 300)
        await begun.wait()
        await server.until(0)


async def test_who_was_told_by_the_application_to_come_later_is_heard_late_too() -> None:
    """A guess too many, an enrollment above an application's rate: no reason to be answered at full speed."""
    for status in (429, 503):
        async with served(answering(status, b"later"), early=Listening()) as server, await server.connect() as stream:  # type: ignore[arg-type]
            began = trio.current_time()
            await stream.send_all(GET * 2)  # together, or after the answer
            heard = await until(stream, b"later")
            await stream.send_all(GET)
            while heard.count(b"later") < 3:
                heard += await until(stream, b"later")
            assert trio.current_time() - began >= 2 * IMPATIENT_SECONDS - 0.1


async def test_nobody_else_is_heard_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IMPATIENT_SECONDS", 3600.0)
    async with served(Remembering(), early=Listening()) as server, await server.connect() as stream:  # type: ignore[arg-type]
        for _ in range(20):
            await stream.send_all(GET)
            await until(stream, b"/")
