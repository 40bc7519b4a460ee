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

from gateway.actions.publish import WHOLE, Publications, RevocationList, delta_list, revocation_list
from gateway.actions.resources import Resources
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
# A delta is asked for because it is new, and is short: a minute takes most of a crowd off the gateway all the same.
DELTA_FRESH: Final = 60  # seconds
MAX_PARTITION_DIGITS: Final = 6

Find = Callable[[Resources, Publications, Authority, int], Awaitable[RevocationList | None]]


def publication_routes(front: Front) -> list[BaseRoute]:
    """`/ca/{authority}.crt`, `/ca/{authority}.crl`, `/ca/{authority}/{partition}.crl` and their `-delta.crl`, DER."""

    async def certificate(authority: Authority, scope: Scope) -> Reply:  # noqa: ARG001, the shape of every body
        return Reply(200, authority.certificate, CERTIFICATE, CACHED)

    def listed(find: Find, fresh: int) -> Endpoint:
        async def body(authority: Authority, scope: Scope) -> Reply:
            part = _part(scope)
            if part is None:
                return NOWHERE
            held = await find(front.resources, front.publications, authority, part)
            return NOWHERE if held is None else _list(held, front.resources.now(), fresh, scope)

        return uncounted(body)

    def uncounted(body: Callable[[Authority, Scope], Awaitable[Reply]]) -> Endpoint:
        return Endpoint(front, _published(front, body), text, counted=False)

    complete, delta = listed(revocation_list, FRESH), listed(delta_list, DELTA_FRESH)
    # No authority's name ends in -delta: these come first.
    return [
        Route("/ca/{name}.crt", uncounted(certificate), methods=None),
        Route("/ca/{name}-delta.crl", delta, methods=None),
        Route("/ca/{name}/{partition}-delta.crl", delta, methods=None),
        Route("/ca/{name}.crl", complete, methods=None),
        Route("/ca/{name}/{partition}.crl", complete, methods=None),
    ]


def _part(scope: Scope) -> int | None:
    """The partition that the path names, or the whole; None if it is no number."""
    digits: str | None = scope["path_params"].get("partition")
    if digits is None:
        return WHOLE
    # One spelling of each number: caches must not be filled with others.
    if len(digits) > MAX_PARTITION_DIGITS or not digits.isdecimal() or digits != str(int(digits)):
        return None
    return int(digits)


def _list(held: RevocationList, now: datetime, fresh: int, scope: Scope) -> Reply:
    """A list, or that it is still the same; no cache may keep it beyond its nextUpdate (RFC 9111, 4.2)."""
    tag = f'"{held.number:x}"'
    fresh = min(fresh, int((held.next_update - now).total_seconds()))
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
    """RFC 9110, 13.2.2: If-None-Match where it is given, and only otherwise If-Modified-Since.

    That is compared exactly, as 13.1.3 provides for: thisUpdate lies some minutes before the signature, and "back in
    time" once a clock was put right. Who sends the time of a download (`curl -z`) would be told that what was signed
    soon after it is what they have.
    """
    known = header(scope, b"if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(","))
    since = header(scope, b"if-modified-since")
    if since is None:
        return False
    try:
        return modified.replace(microsecond=0) == parsedate_to_datetime(since)
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
