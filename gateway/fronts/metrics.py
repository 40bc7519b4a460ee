"""`/metrics`: the gateway's figures, over plain HTTP alone. It does not exist for those who may not read them."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.fronts.endpoint import Endpoint
from gateway.fronts.exposition import MEDIA_TYPE, exposed
from gateway.fronts.front import Front
from gateway.fronts.peer import Peer, relayed
from gateway.fronts.problem import NO_STORE, NOT_FOUND, text
from protocols.exchange import Reply

WRONG_METHOD: Final = text(405, "only GET and HEAD", (("Allow", "GET, HEAD"),))
_PROXIES: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})


def metrics_routes(front: Front) -> list[BaseRoute]:
    """`/metrics`, in Prometheus' text format."""

    async def figures(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
        forwarded = relayed(scope) or any(name in _PROXIES for name, _ in scope["headers"])
        if who.secure or not front.readers.admit(who.address, forwarded=forwarded):
            return NOT_FOUND
        if scope["method"] not in {"GET", "HEAD"}:
            return WRONG_METHOD
        return Reply(200, exposed(await front.measures()), MEDIA_TYPE, (NO_STORE,))

    return [Route("/metrics", Endpoint(front, figures, text, counted=False), methods=None)]
