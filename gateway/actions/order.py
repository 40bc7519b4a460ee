"""Create ACME orders: the names are judged before anything is validated, and one commit makes the whole order.

What ACME calls well-formed was decided in `protocols.acme`; here the pair's policy and settings speak.
No ACME wire form is here.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.actions.resources import Resources
from gateway.domain.application import AcmeSettings, Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.identifier import new_id
from gateway.domain.policy import rules_of
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import San, SanType
from gateway.store import acme as store
from gateway.store.unit import Unit
from protocols.acme.states import (
    Account,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    ChallengeType,
    Identifier,
    IdentifierType,
    Order,
    OrderStatus,
)

# A46 asks for a day at least; a week lets a person who installs by hand come back after the weekend.
LIFETIME: Final = timedelta(days=7)
SHORTEST: Final = timedelta(days=1)

# A65 and RFC 8555, 8.3 ask for 128 bits; 24 bytes spell 32 characters without padding.
_TOKEN: Final = 24

_WILDCARD: Final = "*."


@dataclass(frozen=True, slots=True)
class Ask:
    """What a newOrder asks for, and from where."""

    account: Account
    identifiers: tuple[Identifier, ...]
    not_before: datetime | None = None
    not_after: datetime | None = None
    source: str = ""
    http_request_id: str = ""


async def create(resources: Resources, pair: Pair, ask: Ask) -> Order:
    """Judge the names and create an order with its authorizations, in one commit.

    Names that the policy can never allow are refused now (A45), before anyone proves control of them in vain. With
    `skip_dns_ownership` the order is born ready, which is audited (A75, A128). An authorization that is younger than
    `authorization_reuse` serves again (A50).

    Raises:
        Refusal: POLICY, with a violation for each name; BUSY or UNAVAILABLE.
    """
    judge_names(pair, ask.identifiers)
    settings = pair.settings.acme or AcmeSettings()
    now = resources.now()
    # In whole seconds, as it is told (RFC 3339): of no order that is read a fraction need be cut off.
    end = now - timedelta(0, 0, now.microsecond) + LIFETIME
    fresh: dict[Identifier, Authorization] = {}  # made where they are needed, and once: a unit may be run again
    order_id = new_id(now, resources.dice)
    reuse_since = now - settings.authorization_reuse if settings.authorization_reuse else None

    def unit(unit: Unit) -> Order:
        proved = {} if reuse_since is None else _reusable(unit, ask, reuse_since, now)
        named = dict.fromkeys(ask.identifiers)
        missing = [identifier for identifier in named if identifier not in proved]
        for identifier in missing:
            if identifier not in fresh:
                fresh[identifier] = _authorization(resources, settings, ask, identifier, now=now, end=end)
        chosen = tuple([proved.get(identifier) or fresh[identifier] for identifier in named])
        order = _order(order_id, ask, chosen, end)
        new = tuple([fresh[identifier] for identifier in missing])
        store.create_order(unit, order, new, pair.id, now, found=tuple(proved.values()))
        unit.audit(_event(pair, ask, order, settings, at=now))
        return order

    return await resources.store.write(unit)


def judge_names(pair: Pair, identifiers: tuple[Identifier, ...]) -> None:
    """Refuse names that the pair's policy can never allow, whatever the CSR says. Raises Refusal: POLICY."""
    found = rules_of(pair.profile.policy).judge_names([_san(identifier) for identifier in identifiers])
    if found:
        violations = tuple(violation for _, violation in found)
        raise Refusal(RefusalReason.POLICY, violations[0], violations=violations)


def _san(identifier: Identifier) -> San:
    match identifier.type:
        case IdentifierType.DNS:
            return San(SanType.DNS_NAME, identifier.value)
        case IdentifierType.IP:
            return San(SanType.IP_ADDRESS, identifier.value)


def _reusable(unit: Unit, ask: Ask, since: datetime, now: datetime) -> dict[Identifier, Authorization]:
    """The account's own proofs that still count, by the identifier as it was ordered.

    A pending authorization is nobody's proof: shared, its failure would end two orders. One about to expire would make
    the order shorter than A46 allows.
    """
    found = store.reusable_authorizations(unit, ask.account.id, ask.identifiers, since=since, at=now)
    return {
        _ordered_as(each): each
        for each in found
        if each.status is AuthorizationStatus.VALID and each.expires >= now + SHORTEST
    }


def _ordered_as(authorization: Authorization) -> Identifier:
    """The identifier as an order spells it: with its `*.`."""
    identifier = authorization.identifier
    return Identifier(identifier.type, _WILDCARD + identifier.value) if authorization.wildcard else identifier


def _authorization(
    resources: Resources, settings: AcmeSettings, ask: Ask, identifier: Identifier, *, now: datetime, end: datetime
) -> Authorization:
    wildcard = identifier.type is IdentifierType.DNS and identifier.value.startswith(_WILDCARD)
    token = urlsafe_b64encode(resources.dice(_TOKEN)).decode("ascii")
    # RFC 8555, 8.3 has no way to prove a wildcard over HTTP.
    http01 = Challenge(ChallengeType.HTTP_01.value, ChallengeType.HTTP_01, token, ChallengeStatus.PENDING)
    return Authorization(
        id=new_id(now, resources.dice),
        account_id=ask.account.id,
        identifier=Identifier(identifier.type, identifier.value.removeprefix(_WILDCARD)) if wildcard else identifier,
        wildcard=wildcard,
        status=AuthorizationStatus.VALID if settings.skip_dns_ownership else AuthorizationStatus.PENDING,
        expires=end,
        challenges=() if wildcard else (http01,),
    )


def _order(order_id: str, ask: Ask, authorizations: tuple[Authorization, ...], end: datetime) -> Order:
    ready = all(each.status is AuthorizationStatus.VALID for each in authorizations)
    return Order(
        id=order_id,
        account_id=ask.account.id,
        status=OrderStatus.READY if ready else OrderStatus.PENDING,
        identifiers=ask.identifiers,
        authorization_ids=tuple([each.id for each in authorizations]),
        # An order never outlives what it stands on (RFC 8555, 7.1.6: it would become invalid then).
        expires=min(end, *[each.expires for each in authorizations]),
        not_before=ask.not_before,
        not_after=ask.not_after,
    )


def _event(pair: Pair, ask: Ask, order: Order, settings: AcmeSettings, *, at: datetime) -> AuditEvent:
    names = ", ".join([identifier.value for identifier in ask.identifiers])
    unproved = "; ownership was not asked for, as the settings say" if settings.skip_dns_ownership else ""
    return AuditEvent(
        at=at,
        actor=f"acme-account:{ask.account.id}",
        action="order.create",
        target=order.id,
        outcome="success",
        application_id=pair.application.id,
        detail=f"{names}{unproved}",
        source=ask.source,
        request_id=ask.http_request_id,
    )
