"""CRLs and CA certificates, over plain HTTP as RFC 5280 (4.2.1.13, 4.2.2.1, 8) wants them.

The addresses stand in every certificate that was issued: they must answer as long as those live.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions.publish import RevocationList, revocation_list
from gateway.domain.authority import Authority, AuthorityStatus
from gateway.fronts.endpoint import Answer, Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import header
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import text
from protocols.exchange import Reply

# RFC 2585, section 3.
CERTIFICATE: Final = "application/pkix-cert"
REVOCATION_LIST: Final = "application/pkix-crl"

NOWHERE: Final = text(404, "there is no such authority")
WRONG_METHOD: Final = text(405, "only GET and HEAD", (("Allow", "GET, HEAD"),))
# Ten minutes: short enough that a revocation gets about, long enough for a fleet that starts at once.
FRESH: Final = 600  # seconds
CACHED: Final = (("Cache-Control", f"public, max-age={FRESH}"),)
MAX_PARTITION_DIGITS: Final = 6


def publication_routes(front: Front) -> list[BaseRoute]:
    """`/ca/{authority}.crt`, `/ca/{authority}.crl` and `/ca/{authority}/{partition}.crl`, DER."""

    async def certificate(authority: Authority, scope: Scope) -> Reply:  # noqa: ARG001, the shape of every body
        return Reply(200, authority.certificate, CERTIFICATE, CACHED)

    async def crl(authority: Authority, scope: Scope) -> Reply:
        held = await revocation_list(front.resources, front.publications, authority)
        return NOWHERE if held is None else _list(held, front.resources.now(), scope)

    async def partition(authority: Authority, scope: Scope) -> Reply:
        digits: str = scope["path_params"]["partition"]
        # One spelling of each number: caches must not be filled with others.
        if len(digits) > MAX_PARTITION_DIGITS or not digits.isdecimal() or digits != str(int(digits)):
            return NOWHERE
        held = await revocation_list(front.resources, front.publications, authority, int(digits))
        return NOWHERE if held is None else _list(held, front.resources.now(), scope)

    def uncounted(body: Callable[[Authority, Scope], Awaitable[Reply]]) -> Endpoint:
        return Endpoint(front, _published(front, body), text, counted=False)

    return [
        Route("/ca/{name}.crt", uncounted(certificate), methods=None),
        Route("/ca/{name}.crl", uncounted(crl), methods=None),
        Route("/ca/{name}/{partition}.crl", uncounted(partition), methods=None),
    ]


def _list(held: RevocationList, now: datetime, scope: Scope) -> Reply:
    """A list, or that it is still the same; no cache may keep it beyond its nextUpdate (RFC 9111, 4.2)."""
    tag = f'"{held.number:x}"'
    fresh = min(FRESH, int((held.next_update - now).total_seconds()))
    headers = (
        ("Cache-Control", f"public, max-age={fresh}"),
        ("ETag", tag),
        ("Last-Modified", format_datetime(held.this_update, usegmt=True)),
        ("Expires", format_datetime(now + timedelta(seconds=fresh), usegmt=True)),
    )
    if _unchanged(scope, tag, held.this_update):
        return Reply(304, headers=headers)
    return Reply(200, held.der, REVOCATION_LIST, headers)


def _unchanged(scope: Scope, tag: str, modified: datetime) -> bool:
    """RFC 9110, 13.2.2: If-None-Match where it is given, and only otherwise If-Modified-Since."""
    known = header(scope, b"if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(","))
    since = header(scope, b"if-modified-since")
    if since is None:
        return False
    try:
        return modified <= parsedate_to_datetime(since)
    except (ValueError, TypeError):  # another zone than GMT, or no date at all: ignored (RFC 9110, 13.1.3)
        return False


def _published(front: Front, body: Callable[[Authority, Scope], Awaitable[Reply]]) -> Answer:
    async def answer(scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
        if scope["method"] not in {"GET", "HEAD"}:
            return WRONG_METHOD
        name: str = scope["path_params"]["name"]
        if not plain_path(scope):
            return NOWHERE
        for authority in front.resources.catalogue().authorities:
            if authority.name == name and authority.status is not AuthorityStatus.PENDING_CERTIFICATE:
                return await body(authority, scope)
        return NOWHERE

    return answer
