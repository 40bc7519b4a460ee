"""Authorizations (RFC 8555, 7.5): read by their owner, and deactivated (7.5.2). None is made valid here."""

from __future__ import annotations

from typing import Final

from protocols.acme.failures import Failure, foreign, missing
from protocols.acme.messages import JSON, AuthorizationUpdate, Site, authorization_body, is_validating
from protocols.acme.needs import DeactivateAuthorization, FindAuthorization
from protocols.acme.operations import signed
from protocols.acme.operations.orders import RETRY_AFTER
from protocols.acme.states import AUTHORIZATION_TRANSITIONS, Account, Authorization, AuthorizationStatus
from protocols.exchange import Exchange, Reply, ask

_DEACTIVATED: Final = AuthorizationStatus.DEACTIVATED


def operate(site: Site, by: signed.ByAccount, authorization_id: str) -> Exchange[Reply]:
    """An authorization as it is now, or deactivated (A58, A59). To deactivate one that is so already changes nothing.

    Raises:
        Failure: 404 for an unknown one, unauthorized for another's, malformed for any other change.
    """
    authorization = yield from find(by.account, authorization_id)
    if by.payload:
        wish = signed.payload(by.payload, AuthorizationUpdate)
        if wish.status != _DEACTIVATED:
            raise Failure("malformed", 'The only change to an authorization is {"status": "deactivated"}.')
        if authorization.status is not _DEACTIVATED:
            if _DEACTIVATED not in AUTHORIZATION_TRANSITIONS[authorization.status]:
                raise Failure("malformed", f"The authorization is {authorization.status}; it cannot be deactivated.")
            authorization = yield from ask(DeactivateAuthorization(authorization.id))
    wait = (("Retry-After", RETRY_AFTER),) if is_validating(authorization) else ()
    return Reply(200, authorization_body(site, authorization), JSON, (site.index, *wait))


def find(account: Account, authorization_id: str, *, beginning: bool = False) -> Exchange[Authorization]:
    """An authorization of this account (A52, A53); `beginning` as in the need."""
    authorization = yield from ask(FindAuthorization(authorization_id, beginning))
    if authorization is None:
        raise missing("authorization")
    if authorization.account_id != account.id:
        raise foreign("authorization")
    return authorization
