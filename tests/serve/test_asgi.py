"""The outermost layer: every request has an id, no failure reaches a peer, nothing but HTTP is spoken."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.fronts.peer import Peer
from gateway.fronts.problem import text
from gateway.fronts.rates import Allowed, Rates, rate
from gateway.fronts.rotation import Rotation
from gateway.serve.asgi import Outermost, answering, application
from gateway.serve.telemetry import Counters
from protocols.exchange import Reply
from tests.doubles import asgi
from tests.doubles.house import open_house


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


async def ask(path: str, kind: str = "http", app: ASGIApp = APP) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "headers": [], "query_string": b""}
    scope |= {"scheme": "http", "root_path": "", "client": None, "server": None, "extensions": {}}
    await app(scope, receive, send)
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
    counters.answers.update({200: 2, 201: 1, 404: 3, 0: 1})  # 0: nobody was answered
    assert counters.facts() == {"answers_2xx": 3, "answers_4xx": 3, "answers_none": 1, "open": 0, "failures": 0}
    assert COUNTERS.open == 0


class Told:
    """An endpoint that says its name and what it was told of the path."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = ",".join(f"{name}={value}" for name, value in scope["path_params"].items())
        await PlainTextResponse(f"{self._name} {told}")(scope, receive, send)


async def posted(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"posted {request.path_params['number'] + 1}")


ROUTES: list[BaseRoute] = [
    Route("/a/{one}/first", Told("first")),
    Route("/a/{one}/{rest:path}", Told("second")),
    Route("/numbers/{number:int}", posted, methods=["GET"]),
    Route("/b", Told("b")),
    Route("/{any}/last", Told("anywhere")),
]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/a/x/first", b"first one=x"),
        ("/a/x/y/z", b"second one=x,rest=y/z"),
        ("/a/last", b"anywhere any=a"),
        ("/c/last", b"anywhere any=c"),
        ("/b", b"b "),
        ("/numbers/41", b"posted 42"),
        ("/b/", None),
        ("/b/last/", None),
        ("/A/x/first", None),
        ("//a/x/first", None),
        ("/numbers/x", None),
        ("/", None),
        ("", None),
        ("*", None),
    ],
)
@pytest.mark.parametrize("routes", [ROUTES, ROUTES[:2] + ROUTES[3:]])
async def test_a_path_is_answered_by_the_route_that_starlette_finds_and_by_no_other(
    path: str, body: bytes | None, routes: list[BaseRoute]
) -> None:
    # D9: what no route takes does not exist. The routes of one segment are tried alone, in their order.
    if len(routes) < len(ROUTES) and path.startswith("/numbers"):
        body = None
    answers = []
    for app in (application(routes, Counters()), Outermost(Router(routes, redirect_slashes=False), Counters())):
        start, content, *_ = await ask(path, app=app)
        answers.append((start["status"], content["body"]))
    if body is None:
        assert [status for status, _ in answers] == [404, 404]
    else:
        assert answers == [(200, body)] * 2


async def test_an_answer_that_is_given_before_the_routes_passes_all_that_is_around_them(tmp_path: Path) -> None:
    """It waits for its turn, has an id of the same row, is counted, and one that is wrong uses its address's rate."""
    counters = Counters()
    names: list[str] = []

    async def wrong(scope: Scope, receive: Receive, who: Peer) -> Reply:
        names.append(who.id)
        return text(403, "not so")

    async with open_house(tmp_path) as house:
        rotation, rates = Rotation(1), Rates(allowed=Allowed(rate("1/h burst 10")))
        house.set_front(limits=replace(house.front.limits, rotation=rotation, rates=rates))
        app = answering(house.front, application([], counters))(wrong)
        statuses: list[int] = []

        async def ask_once(address: str) -> None:
            statuses.append((await asgi.ask(app, "GET", "/", address=address)).status)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rotation.run)
                await trio.testing.wait_all_tasks_blocked()
                async with trio.open_nursery() as asking:
                    for address in ("192.0.2.1", "192.0.2.2"):
                        asking.start_soon(partial(ask_once, address))
                    while not rotation.waiting:  # one began, and the other comes after it
                        await trio.lowlevel.checkpoint()
                    assert len(statuses) < 2
                await ask_once("192.0.2.1")
                nursery.cancel_scope.cancel()
    assert statuses == [403, 403, 429]
    assert counters.answers == {403: 2, 429: 1}
    start, _, _ = names[0].partition("-")
    assert names == [f"{start}-1", f"{start}-2"]
