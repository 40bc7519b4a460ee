"""ACME over HTTPS: one address for all resources of a pair, and a fresh nonce on every answer, whatever it says.

Never a URL made from a request: what the client signed is compared with what the configuration says (A2, A21).
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions.admit import admit
from gateway.domain.application import AcmeSettings, Pair
from gateway.domain.request import Protocol
from gateway.fronts.acme.accounts import Accounts
from gateway.fronts.acme.host import SEEN, Host, Shared
from gateway.fronts.acme.lately import Lately
from gateway.fronts.acme.nonces import Nonces
from gateway.fronts.carry import carry
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import header, read_body
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import NO_STORE
from gateway.store.catalogue import Catalogue
from protocols.acme import failures
from protocols.acme.messages import Site
from protocols.acme.operations import get, post
from protocols.exchange import Reply

# What begins something. All else carries on what cost its client more with each step, or takes something back.
BEGINNINGS: Final = frozenset({"new-account", "new-order"})
_HTTPS_ONLY: Final = "ACME is served over https only"
_NOWHERE: Final = "there is no ACME enrollment at this address"

# RFC 8555, 6.7, for what is said before an exchange begins; anything else is the client's malformed request.
_TYPES: Final = {
    401: "unauthorized",
    403: "unauthorized",
    429: "rateLimited",
    500: "serverInternal",
    503: "serverInternal",
}


class Acme:
    """ACME for every pair of the catalogue."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._shared = Shared(
            front.resources,
            Nonces(front.resources.dice, time.monotonic, front.nonces),
            Accounts(time.monotonic),
            Lately(time.monotonic),
            Lately(time.monotonic),
            Lately(time.monotonic, lifetime=SEEN),
            Lately(time.monotonic),
            front.validations,
        )
        self._catalogue: Catalogue | None = None
        self._places: dict[tuple[str, str], tuple[Pair, Site]] = {}

    async def answer(self, scope: Scope, receive: Receive, who: Peer) -> Reply:
        """The reply to one request at any of ACME's addresses, with a nonce."""
        if not who.secure:
            reply = failures.problem("unauthorized", _HTTPS_ONLY, 403)
        elif not plain_path(scope):
            reply = failures.problem("malformed", _NOWHERE, 404)
        elif scope["method"] == "POST":
            reply = await self._post(scope, receive, who)
        else:
            _, site, path = self._place(scope)
            reply = get(site, path, scope["method"])
        return self._with_nonce(reply)

    def wording(self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
        """ACME's form of everything that is said outside an exchange: a problem, with a nonce (A6, A105)."""
        reply = failures.problem(_TYPES.get(status, "malformed"), sentence, status)
        return self._with_nonce(msgspec.structs.replace(reply, headers=(*reply.headers, *headers)))

    async def _post(self, scope: Scope, receive: Receive, who: Peer) -> Reply:
        pair, site, path = self._place(scope)
        limits, application, begun = self._front.limits, pair.application.id, carries_on(path)
        limits.admit(application, begun=begun)
        body = await read_body(scope, receive, cap=limits.acme_body, seconds=limits.body_seconds)
        with limits.admission.under_way(application, begun=begun) as entry:
            resources, media_type = self._front.resources, header(scope, b"content-type")
            now = resources.now()
            host = Host(self._shared, resources, pair, pair.id, who, entry, now)
            exchange = post(site, path, media_type, body, host, now=now)
            return entry.answered(await carry(exchange, host.answer))

    def _place(self, scope: Scope) -> tuple[Pair, Site, str]:
        """The pair that is asked, what the protocol knows of it, and the path below it. Raises as `admit` does."""
        parameters: dict[str, str] = scope["path_params"]
        application, profile, path = parameters["application"], parameters["profile"], parameters["path"]
        # A catalogue never changes: whom this very one admitted, it admits.
        catalogue = self._front.resources.catalogue()
        if catalogue is not self._catalogue:
            self._catalogue, self._places = catalogue, {}
        known = self._places.get((application, profile))
        if known is None:
            pair = admit(self._front.resources, application, profile, Protocol.ACME)
            known = self._places[application, profile] = pair, _site(self._front.urls.https, pair)
        # The query is part of the path: no resource has one, so none can be named with one (A21).
        query: bytes = scope["query_string"]
        return *known, f"{path}?{query.decode('latin-1')}" if query else path

    def _with_nonce(self, reply: Reply) -> Reply:
        headers = (*reply.headers, ("Replay-Nonce", self._shared.nonces.make()), NO_STORE)
        return Reply(reply.status, reply.body, reply.media_type, headers)


def carries_on(path: str) -> bool:
    """Whether a POST to `path`, below the pair, carries on what another began (P16)."""
    return path not in BEGINNINGS


def _site(base: str, pair: Pair) -> Site:
    settings = pair.settings.acme or AcmeSettings()
    return Site(
        url=f"{base}/acme/{pair.application.name}/{pair.profile.slug}",
        pair_id=pair.id,
        terms_of_service=settings.terms_of_service,
        website=settings.website,
        external_account_required=not settings.skip_eab_binding,
        wildcards=settings.skip_dns_ownership,
    )


def acme_routes(front: Front) -> list[BaseRoute]:
    """ACME's addresses. All methods: which of them a resource has, the protocol says (A12)."""
    acme = Acme(front)
    return [Route("/acme/{application}/{profile}/{path:path}", Endpoint(front, acme.answer, acme.wording))]
