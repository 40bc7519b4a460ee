"""Is the gateway alive, and can it work? For load balancers: a status and one word, nothing about the installation."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.peer import Peer
from gateway.fronts.problem import NO_STORE, text
from protocols.exchange import Reply

ALIVE: Final = text(200, "alive", (NO_STORE,))
READY: Final = text(200, "ready", (NO_STORE,))
NOT_READY: Final = text(503, "not ready", (NO_STORE, ("Retry-After", "1")))
WRONG_METHOD: Final = text(405, "only GET and HEAD", (("Allow", "GET, HEAD"),))


def health_routes(front: Front) -> list[BaseRoute]:
    """`/healthz` answers while the loop runs; `/readyz` where store and signer can be reached too."""

    async def alive(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
        return ALIVE if scope["method"] in {"GET", "HEAD"} else WRONG_METHOD

    async def ready(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
        if scope["method"] not in {"GET", "HEAD"}:
            return WRONG_METHOD
        return READY if await front.ready() else NOT_READY

    return [
        Route("/healthz", Endpoint(front, alive, text, counted=False), methods=None),
        Route("/readyz", Endpoint(front, ready, text, counted=False), methods=None),
    ]
