"""Challenges (RFC 8555, 7.5.1): read, and answered. An answer starts one validation, however often it is sent (A61)."""

from __future__ import annotations

from typing import Final

from protocols.acme.failures import missing
from protocols.acme.messages import JSON, Site, challenge_body, is_validating
from protocols.acme.needs import BeginValidation
from protocols.acme.operations import authorizations, signed
from protocols.acme.operations.orders import RETRY_AFTER
from protocols.acme.states import Authorization, AuthorizationStatus, Challenge, ChallengeStatus
from protocols.exchange import Exchange, Reply, ask
from protocols.jose import strict

# By name: to look a member up in its enumeration takes CPython 3.11 ten times as long.
_PENDING: Final = AuthorizationStatus.PENDING
_UNANSWERED: Final = ChallengeStatus.PENDING


def operate(site: Site, by: signed.ByAccount, authorization_id: str, challenge_id: str) -> Exchange[Reply]:
    """A challenge as it is now; a payload that is a JSON object says that the client is ready (A60).

    Raises:
        Failure: 404 for an unknown one, unauthorized for another's.
        Refused: what `BeginValidation` may be refused for.
    """
    authorization = yield from authorizations.find(by.account, authorization_id, beginning=bool(by.payload))
    challenge = _challenge(authorization, challenge_id)
    if by.payload:
        # RFC 8555, 7.5.1: `{}`. Members are ignored: older clients repeat the key authorization here.
        if by.payload != b"{}":
            strict.members(by.payload, field="payload")
        if authorization.status is _PENDING and challenge.status is _UNANSWERED:
            authorization = yield from ask(BeginValidation(by.account, authorization, challenge_id))
            challenge = _challenge(authorization, challenge_id)
    headers = [("Link", f'<{site.authorization(authorization.id)}>;rel="up"'), site.index]
    if is_validating(authorization):
        headers.append(("Retry-After", RETRY_AFTER))
    return Reply(200, challenge_body(site, authorization.id, challenge), JSON, tuple(headers))


def _challenge(authorization: Authorization, challenge_id: str) -> Challenge:
    for each in authorization.challenges:
        if each.id == challenge_id:
            return each
    raise missing("challenge")
