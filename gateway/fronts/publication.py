"""CRLs and CA certificates, over plain HTTP as RFC 5280 (4.2.1.13, 4.2.2.1, 8) wants them.

The addresses stand in every certificate that was issued: they must answer as long as those live.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions.publish import revocation_list
from gateway.domain.authority import Authority, AuthorityStatus
from gateway.fronts.endpoint import Answer, Endpoint
from gateway.fronts.front import Front
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import text
from protocols.exchange import Reply

# RFC 2585, section 3.
CERTIFICATE: Final = "application/pkix-cert"
REVOCATION_LIST: Final = "application/pkix-crl"

NOWHERE: Final = text(404, "there is no such authority")
WRONG_METHOD: Final = text(405, "only GET and HEAD", (("Allow", "GET, HEAD"),))
# Ten minutes: short enough that a revocation gets about, long enough for a fleet that starts at once.
CACHED: Final = (("Cache-Control", "public, max-age=600"),)


def publication_routes(front: Front) -> list[BaseRoute]:
    """`/ca/{authority}.crt` and `/ca/{authority}.crl`, DER."""

    async def certificate(authority: Authority) -> Reply:
        return Reply(200, authority.certificate, CERTIFICATE, CACHED)

    async def crl(authority: Authority) -> Reply:
        held = await revocation_list(front.resources, front.publications, authority)
        return Reply(200, held.der, REVOCATION_LIST, CACHED)

    return [
        Route("/ca/{name}.crt", Endpoint(front, _published(front, certificate), text), methods=None),
        Route("/ca/{name}.crl", Endpoint(front, _published(front, crl), text), methods=None),
    ]


def _published(front: Front, body: Callable[[Authority], Awaitable[Reply]]) -> Answer:
    async def answer(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
        if scope["method"] not in {"GET", "HEAD"}:
            return WRONG_METHOD
        name: str = scope["path_params"]["name"]
        if not plain_path(scope):
            return NOWHERE
        for authority in front.resources.catalogue().authorities:
            if authority.name == name and authority.status is not AuthorityStatus.PENDING_CERTIFICATE:
                return await body(authority)
        return NOWHERE

    return answer
