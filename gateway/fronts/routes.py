"""Every address of the gateway, in one list. What it does not list does not exist, and says so without a hint (D9)."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.fronts.acme import acme_routes
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.est import est_routes
from gateway.fronts.front import Front
from gateway.fronts.health import health_routes
from gateway.fronts.metrics import metrics_routes
from gateway.fronts.ocsp import ocsp_routes
from gateway.fronts.peer import Peer
from gateway.fronts.problem import NOT_FOUND, problem
from gateway.fronts.publication import publication_routes
from gateway.fronts.rest import rest_routes
from gateway.fronts.scep import scep_routes
from protocols.exchange import Reply


def routes(front: Front) -> list[BaseRoute]:
    """All routes, the busiest first. The last one takes what is left, so that nothing is ever redirected (E5, E6)."""
    return [
        *ocsp_routes(front),
        *acme_routes(front),
        *est_routes(front),
        *scep_routes(front),
        *rest_routes(front),
        *publication_routes(front),
        *health_routes(front),
        *metrics_routes(front),
        Route("/{rest:path}", Endpoint(front, _nothing, problem), methods=None),
    ]


async def _nothing(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
    return NOT_FOUND
