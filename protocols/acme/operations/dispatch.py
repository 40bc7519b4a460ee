"""From a path to its operation, closed: what is not listed is 404, and no path is ever repaired or redirected (A14)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias, assert_never

import msgspec

from protocols.acme import failures
from protocols.acme.messages import JSON, Directory, Meta, Site, encode
from protocols.acme.needs import AtHand, FindAccount
from protocols.acme.operations import accounts, authorizations, certificates, challenges, finalize, orders, signed
from protocols.exchange import Exchange, Malformed, Refused, Reply, ask

# RFC 8555, 7.1. Plain names, not an enumeration's members: to tell those apart takes CPython 3.11 ten times as long.
Resource: TypeAlias = Literal[
    "directory",
    "new-nonce",
    "new-account",
    "new-order",
    "account",
    "orders",
    "order",
    "finalize",
    "authorization",
    "challenge",
    "certificate",
]


class Place(msgspec.Struct, frozen=True):
    """A resource, and the ids in its path."""

    resource: Resource
    id: str = ""
    second: str = ""


# A12: POST is there for both, because a client may read everything by POST-as-GET (RFC 8555, 6.3).
_UNSIGNED: Final = {"directory": "GET, HEAD, POST", "new-nonce": "GET, HEAD, POST"}


def get(site: Site, path: str, method: str) -> Reply:
    """Answer a request without a signature. `path` is what follows `site.url + "/"`, `method` anything but POST.

    Never raises: a path without a resource is 404, a method that the resource does not have is 405 with Allow.
    """
    place = _locate(path)
    if place is None:
        return failures.not_found(site)
    allowed = _UNSIGNED.get(place.resource, "POST")
    match place.resource, method:
        case "directory", ("GET" | "HEAD"):
            return _directory(site)
        case "new-nonce", "HEAD":
            return Reply(200, headers=(site.index,))
        case "new-nonce", "GET":
            # RFC 8555, 7.2; uacme wants exactly 204.
            return Reply(204, headers=(site.index,))
        case "directory", "OPTIONS":
            return Reply(204, headers=(("Allow", allowed),))
        case _, "OPTIONS":
            return Reply(204, headers=(("Allow", allowed), site.index))
        case _:
            return failures.problem(
                "malformed",
                f"This resource does not have the method {method[:16]}; use {allowed}.",
                405,
                site=site,
                headers=(("Allow", allowed),),
            )


def post(site: Site, path: str, media_type: str | None, body: bytes, host: AtHand, *, now: datetime) -> Exchange[Reply]:
    """Answer a signed request. `path` as in `get`; `now` is aware.

    Whatever the peer did wrong and whatever the host refused becomes a problem document; only bugs are raised.
    """
    try:
        place = _locate(path)
        if place is None:
            return failures.not_found(site)
        message = signed.read(media_type, body)
        if place.resource == "new-account":
            return (yield from accounts.create(site, signed.by_key(site, path, message, host)))
        account_id = signed.account_id(site, message)
        account = host.known_account(account_id)
        if account is None:
            account = (yield from ask(FindAccount(account_id))) if signed.is_id(account_id) else None
            if account is None:
                raise signed.no_account()
        by = signed.by_account(site, path, message, account, host)
        # In the order of how often they come: a match is read from above.
        match place.resource:
            case "order":
                return (yield from orders.read(site, by, place.id))
            case "authorization":
                return (yield from authorizations.operate(site, by, place.id))
            case "challenge":
                return (yield from challenges.operate(site, by, place.id, place.second))
            case "new-order":
                return (yield from orders.create(site, by, now))
            case "finalize":
                return (yield from finalize.finalize(site, by, place.id))
            case "certificate":
                return (yield from certificates.read(site, by, place.id))
            case "account":
                return (yield from accounts.operate(site, by, place.id))
            case "orders":
                return (yield from accounts.orders(site, by, place.id, place.second or None))
            case "directory":
                signed.expect_empty(by.payload)
                return _directory(site)
            case "new-nonce":
                signed.expect_empty(by.payload)
                return Reply(204, headers=(site.index,))
            case _:
                assert_never(place.resource)
    except Malformed as fault:
        return failures.reply(site, fault)
    except Refused as refusal:
        return failures.refused(site, refusal)


# Told apart by their names first; most requests are for one of these.
_ALONE: Final[Mapping[str, Place]] = {
    "directory": Place("directory"),
    "new-nonce": Place("new-nonce"),
    "new-account": Place("new-account"),
    "new-order": Place("new-order"),
}
_WITH_ID: Final[Mapping[str, Resource]] = {
    "account": "account",
    "order": "order",
    "authorization": "authorization",
    "certificate": "certificate",
}


def _locate(path: str) -> Place | None:
    alone = _ALONE.get(path)
    if alone is not None:
        return alone
    name, _, below = path.partition("/")
    resource = _WITH_ID.get(name)
    if resource is not None and signed.is_id(below):
        return Place(resource, below)
    ids = below.split("/")
    for each in ids:
        if not signed.is_id(each):
            return None
    match ids:
        case [id_, "finalize"] if name == "order":
            return Place("finalize", id_)
        case [authorization_id, challenge_id] if name == "challenge":
            return Place("challenge", authorization_id, challenge_id)
        case [id_, "orders"] if name == "account":
            return Place("orders", id_)
        case [id_, "orders", cursor] if name == "account":
            return Place("orders", id_, cursor)
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
