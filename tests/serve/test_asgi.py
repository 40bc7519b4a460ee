"""The outermost layer: every request has an id, no failure reaches a peer, nothing but HTTP is spoken."""

from __future__ import annotations

import logging

from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.serve.asgi import application
from gateway.serve.telemetry import Counters


class Failing:
    """An endpoint with a bug; `started` is whether it shows after the head was sent."""

    def __init__(self, *, started: bool) -> None:
        self._started = started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("the secret is 42")


class Naming:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["request_id"])(scope, receive, send)


COUNTERS = Counters()
APP = application(
    [
        Route("/before", Failing(started=False)),
        Route("/after", Failing(started=True)),
        Route("/name", Naming()),
    ],
    COUNTERS,
)


async def ask(path: str, kind: str = "http") -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "headers": [], "query_string": b""}
    scope |= {"scheme": "http", "root_path": "", "client": None, "server": None, "extensions": {}}
    await APP(scope, receive, send)
    return sent


async def test_each_request_has_an_id_of_its_own() -> None:
    names = {(await ask("/name"))[1]["body"] for _ in range(10)}
    assert len(names) == 10


async def test_a_bug_is_a_bare_500_and_a_line_in_the_log(caplog) -> None:
    before = COUNTERS.failures
    with caplog.at_level(logging.ERROR):
        head, body = await ask("/before")
    assert head["status"] == 500
    assert b"42" not in body["body"]
    assert "RuntimeError" in caplog.text
    assert COUNTERS.failures == before + 1


async def test_a_bug_behind_the_head_sends_no_second_head() -> None:
    assert [message["type"] for message in await ask("/after")] == ["http.response.start"]


async def test_an_unknown_path_is_404_and_a_slash_is_never_added() -> None:
    for path in ("/", "/name/", "/nothing"):
        assert (await ask(path))[0]["status"] == 404


async def test_a_websocket_is_closed_before_it_opens() -> None:
    assert await ask("/name", "websocket") == [{"type": "websocket.close", "code": 1000}]


async def test_answers_are_counted_by_class() -> None:
    counters = Counters()
    counters.answers.update({200: 2, 201: 1, 404: 3})
    assert counters.facts() == {"answers_2xx": 3, "answers_4xx": 3, "open": 0, "failures": 0}
    assert COUNTERS.open == 0
