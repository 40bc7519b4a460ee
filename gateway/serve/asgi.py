"""The ASGI application: the routes, and around them the one layer that every request passes.

The layer names the request, counts its answer, and turns what a front did not expect into a bare 500. No path is known
here but through `fronts.routes`, nothing is read from a request, and nothing of an error reaches a peer.
"""

from __future__ import annotations

import copy
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from starlette.convertors import PathConvertor, StringConvertor
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.fronts.carry import ReplyResponse
from gateway.fronts.endpoint import Answer, Endpoint
from gateway.fronts.front import Front
from gateway.fronts.problem import NOT_FOUND, problem
from gateway.serve.telemetry import Counters

Answering: TypeAlias = Callable[[Answer], ASGIApp]
"""Makes an application of what gives one answer."""

FAILED: Final = problem(500, "something went wrong on this side; nothing of it is your doing")

logger = logging.getLogger("muster.asgi")


class Outermost:
    """Gives each request its id (`scope["request_id"]`) and keeps every failure inside the gateway."""

    def __init__(self, inner: ASGIApp, counters: Counters) -> None:
        self._inner = inner
        self._counters = counters
        # Unique among starts and quick to make; it names a request in logs and audit and authorizes nothing.
        self._start = secrets.token_hex(5)
        self._numbers = itertools.count(1)

    def around(self, inner: ASGIApp) -> Outermost:
        """The same layer around another application: with the same counters, and of the same row of ids."""
        other = copy.copy(self)
        other._inner = inner  # noqa: SLF001 - its own kind
        return other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Only HTTP is spoken: a WebSocket is closed before it opens."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        identity = f"{self._start}-{next(self._numbers):x}"
        scope["request_id"] = identity
        counters = self._counters
        status = 0

        def counted(message: Message) -> Awaitable[None]:
            nonlocal status
            status = message.get("status", status)  # the body's messages have none
            return send(message)

        counters.open += 1
        try:
            await self._inner(scope, receive, counted)
        except Exception:
            counters.failures += 1
            logger.exception("a request failed", extra={"request": identity, "method": scope["method"]})
            if status == 0:
                status = 500
                await ReplyResponse(FAILED)(scope, receive, send)
        finally:
            counters.open -= 1
            counters.answers[status] += 1


class Doors:
    """Starlette's routes, found by the first segment of the path; what none of them takes does not exist (D9).

    Starlette tries one route after the other, and prepares for each that matches what no front here asks for: a tenth
    of what a small request costs. Here a request meets the routes of its own segment only, in their order. Where a
    segment has routes that want more than text out of a path (a mount, a method, a number), Starlette decides.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._starlette = Router(routes, redirect_slashes=False, default=_nothing_here)
        self._everywhere = _doors([each for each in routes if _segment(each) is None])
        self._by_segment = {
            segment: _doors([each for each in routes if _segment(each) in {segment, None}])
            for segment in {_segment(each) for each in routes}
            if segment is not None
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand the request to the first route that takes its path."""
        path: str = scope["path"]
        # What stands between the first two slashes; a path without a second one ends with it.
        end = path.find("/", 1)
        doors = self._by_segment.get(path[1:end] if end > 0 else path[1:], self._everywhere)
        if doors is None:
            return self._starlette(scope, receive, send)
        for takes, endpoint in doors:
            found = takes.match(path)
            if found is not None:
                scope["path_params"] = found.groupdict()
                return endpoint(scope, receive, send)
        return _nothing_here(scope, receive, send)


def _segment(route: BaseRoute) -> str | None:
    """The first segment of a route's paths; None where it is not one text."""
    segment = getattr(route, "path", "/{any}").split("/", 2)[1]
    return None if "{" in segment else segment


def _doors(routes: Sequence[BaseRoute]) -> list[tuple[re.Pattern[str], ASGIApp]] | None:
    """What the paths of these routes look like, and who answers; None where Starlette is to tell."""
    doors: list[tuple[re.Pattern[str], ASGIApp]] = []
    for route in routes:
        if not isinstance(route, Route) or route.methods is not None:
            return None
        if any(type(each) not in {StringConvertor, PathConvertor} for each in route.param_convertors.values()):
            return None
        doors.append((route.path_regex, route.app))
    return doors


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await ReplyResponse(NOT_FOUND)(scope, receive, send)


def application(routes: Sequence[BaseRoute], counters: Counters) -> Outermost:
    """The gateway as an ASGI application. No redirect adds or takes a slash: enrollment clients do not follow any."""
    return Outermost(Doors(routes), counters)


def answering(front: Front, outermost: Outermost) -> Answering:
    """For an answer that is given before a route is found, what is around each answer of the routes: it is given in
    turn, has an id, is counted, and its address keeps to its rate.
    """

    def app(answer: Answer) -> ASGIApp:
        return front.limits.rotation.around(outermost.around(Endpoint(front, answer, problem)))

    return app
