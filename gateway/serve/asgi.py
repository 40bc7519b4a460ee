"""The ASGI application: the routes, and around them the one layer that every request passes.

The layer names the request, counts its answer, and turns what a front did not expect into a bare 500. No path is known
here but through `fronts.routes`, nothing is read from a request, and nothing of an error reaches a peer.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.fronts.carry import ReplyResponse
from gateway.fronts.problem import NOT_FOUND, problem
from gateway.serve.telemetry import Counters

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Only HTTP is spoken: a WebSocket is closed before it opens."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        identity = f"{self._start}-{next(self._numbers):x}"
        scope["request_id"] = identity
        counters = self._counters
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

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


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await ReplyResponse(NOT_FOUND)(scope, receive, send)


def application(routes: Sequence[BaseRoute], counters: Counters) -> Outermost:
    """The gateway as an ASGI application. No redirect adds or takes a slash: enrollment clients do not follow any."""
    return Outermost(Router(routes, redirect_slashes=False, default=_nothing_here), counters)
