"""From a path to its operation, closed: what is not listed is 404, and no path is ever repaired or redirected (A14)."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, unique
from functools import lru_cache
from typing import Final, NamedTuple, assert_never

from protocols.acme import failures
from protocols.acme.messages import JSON, Directory, Meta, Site, encode
from protocols.acme.operations import accounts, authorizations, certificates, challenges, finalize, orders, signed
from protocols.exchange import Exchange, Malformed, Refused, Reply


@unique
class Resource(Enum):
    """The resources of RFC 8555, 7.1."""

    DIRECTORY = "directory"
    NEW_NONCE = "new-nonce"
    NEW_ACCOUNT = "new-account"
    NEW_ORDER = "new-order"
    ACCOUNT = "account"
    ORDERS = "orders"
    ORDER = "order"
    FINALIZE = "finalize"
    AUTHORIZATION = "authorization"
    CHALLENGE = "challenge"
    CERTIFICATE = "certificate"


class Place(NamedTuple):
    """A resource, and the ids in its path."""

    resource: Resource
    id: str = ""
    second: str = ""


# A12: POST is there for both, because a client may read everything by POST-as-GET (RFC 8555, 6.3).
_UNSIGNED: Final = {Resource.DIRECTORY: "GET, HEAD, POST", Resource.NEW_NONCE: "GET, HEAD, POST"}


def get(site: Site, path: str, method: str) -> Reply:
    """Answer a request without a signature. `path` is what follows `site.url + "/"`, `method` anything but POST.

    Never raises: a path without a resource is 404, a method that the resource does not have is 405 with Allow.
    """
    place = _locate(path)
    if place is None:
        return failures.not_found(site)
    allowed = _UNSIGNED.get(place.resource, "POST")
    match place.resource, method:
        case Resource.DIRECTORY, ("GET" | "HEAD"):
            return _directory(site)
        case Resource.NEW_NONCE, "HEAD":
            return Reply(200, headers=(failures.index(site),))
        case Resource.NEW_NONCE, "GET":
            # RFC 8555, 7.2; uacme wants exactly 204.
            return Reply(204, headers=(failures.index(site),))
        case Resource.DIRECTORY, "OPTIONS":
            return Reply(204, headers=(("Allow", allowed),))
        case _, "OPTIONS":
            return Reply(204, headers=(("Allow", allowed), failures.index(site)))
        case _:
            return failures.problem(
                "malformed",
                f"This resource does not have the method {method[:16]}; use {allowed}.",
                405,
                site=site,
                headers=(("Allow", allowed),),
            )


def post(site: Site, path: str, media_type: str | None, body: bytes, *, now: datetime) -> Exchange[Reply]:
    """Answer a signed request. `path` as in `get`; `now` is aware.

    Whatever the peer did wrong and whatever the host refused becomes a problem document; only bugs are raised.
    """
    try:
        place = _locate(path)
        if place is None:
            return failures.not_found(site)
        if place.resource is Resource.NEW_ACCOUNT:
            by_key = yield from signed.by_key(site, path, media_type, body)
            return (yield from accounts.create(site, by_key))
        by_account = yield from signed.by_account(site, path, media_type, body)
        return (yield from _operate(site, place, by_account, now))
    except Malformed as fault:
        return failures.reply(site, fault)
    except Refused as refusal:
        return failures.refused(site, refusal)


def _operate(site: Site, place: Place, by: signed.ByAccount, now: datetime) -> Exchange[Reply]:
    """In the order of how often they come: a match is read from above."""
    match place.resource:
        case Resource.ORDER:
            return (yield from orders.read(site, by, place.id))
        case Resource.AUTHORIZATION:
            return (yield from authorizations.operate(site, by, place.id))
        case Resource.CHALLENGE:
            return (yield from challenges.operate(site, by, place.id, place.second))
        case Resource.NEW_ORDER:
            return (yield from orders.create(site, by, now))
        case Resource.FINALIZE:
            return (yield from finalize.finalize(site, by, place.id))
        case Resource.CERTIFICATE:
            return (yield from certificates.read(site, by, place.id))
        case Resource.ACCOUNT:
            return (yield from accounts.operate(site, by, place.id))
        case Resource.ORDERS:
            return (yield from accounts.orders(site, by, place.id, place.second or None))
        case Resource.DIRECTORY:
            signed.expect_empty(by.payload)
            return _directory(site)
        case Resource.NEW_NONCE:
            signed.expect_empty(by.payload)
            return Reply(204, headers=(failures.index(site),))
        case Resource.NEW_ACCOUNT:
            raise failures.missing("resource")
        case _:
            assert_never(place.resource)


# Told apart by their names first; most requests are for one of these.
_ALONE: Final = {
    each.value: Place(each)
    for each in (Resource.DIRECTORY, Resource.NEW_NONCE, Resource.NEW_ACCOUNT, Resource.NEW_ORDER)
}
_WITH_ID: Final = {
    each.value: each for each in (Resource.ACCOUNT, Resource.ORDER, Resource.AUTHORIZATION, Resource.CERTIFICATE)
}


def _locate(path: str) -> Place | None:
    alone = _ALONE.get(path)
    if alone is not None:
        return alone
    name, _, below = path.partition("/")
    if name in _WITH_ID and signed.is_id(below):
        return Place(_WITH_ID[name], below)
    ids = below.split("/")
    for each in ids:
        if not signed.is_id(each):
            return None
    match ids:
        case [id_, "finalize"] if name == "order":
            return Place(Resource.FINALIZE, id_)
        case [authorization_id, challenge_id] if name == "challenge":
            return Place(Resource.CHALLENGE, authorization_id, challenge_id)
        case [id_, "orders"] if name == "account":
            return Place(Resource.ORDERS, id_)
        case [id_, "orders", cursor] if name == "account":
            return Place(Resource.ORDERS, id_, cursor)
        case _:
            return None


# One body a pair, made once: a gateway has hundreds of pairs, and every client's first request is for one of these.
@lru_cache(maxsize=1024)
def _directory(site: Site) -> Reply:
    """RFC 8555, 7.1.1. newAuthz, keyChange and revokeCert are absent: what is advertised works (A1)."""
    body = Directory(
        new_nonce=f"{site.url}/new-nonce",
        new_account=f"{site.url}/new-account",
        new_order=f"{site.url}/new-order",
        meta=Meta(site.terms_of_service, site.website, site.external_account_required),
    )
    return Reply(200, encode(body), JSON)
