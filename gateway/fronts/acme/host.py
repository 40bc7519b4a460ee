"""Answers to the needs of one ACME request. What is not listed here cannot be asked for: default deny."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from gateway.actions import order
from gateway.actions.finalize import finalize
from gateway.actions.outage import OUTAGES, outage
from gateway.actions.resources import Resources
from gateway.actions.validate import Validation, Validations
from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.identifier import new_id
from gateway.domain.issuance import Issued
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import ProofKind
from gateway.fronts.acme.accounts import Accounts
from gateway.fronts.acme.lately import Lately
from gateway.fronts.acme.nonces import Nonces
from gateway.fronts.admission import UnderWay
from gateway.fronts.peer import Peer
from gateway.fronts.stages import READING
from gateway.store import acme, certificates
from gateway.store.unit import Unit
from protocols.acme import needs
from protocols.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    ChallengeStatus,
    Order,
    OrderStatus,
)

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# One page of an account's orders: the URLs of 100 orders are 10 KiB of JSON.
_PAGE: Final = 100

# By name: to look a member up in its enumeration takes CPython 3.11 ten times as long.
_READY: Final = OrderStatus.READY


# Seconds for which an authorization that was read as pending counts as seen to be so when its validation begins. Less
# than the second for which another worker's claim outlasts its validation: one that has ended since is not done again.
SEEN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Shared:
    """What all ACME requests of this process share. `pending` are orders by the one authorization that they wait for.

    `open` are authorizations of which nobody has asked for a validation.
    """

    resources: Resources
    nonces: Nonces
    accounts: Accounts
    ready: Lately[Order]
    pending: Lately[Order]
    open: Lately[Authorization]
    issued: Lately[tuple[bytes, ...]]
    validations: Validations


class Host(msgspec.Struct, frozen=True):
    """The host of one request: of one pair, for one peer, that came `now`. `entry` counts it among those under way.

    A struct, since each request makes one: at a fifth of what a class with an `__init__` takes.
    """

    _shared: Shared
    _resources: Resources
    _pair: Pair
    _pair_id: str
    _who: Peer
    _entry: UnderWay
    _now: datetime

    def spend(self, nonce: str) -> bool:
        """Spend a nonce; `AtHand`."""
        return self._shared.nonces.spend(nonce)

    def known_account(self, account_id: str) -> Account | None:
        """An account that was read lately; `AtHand`."""
        return self._shared.accounts.get(self._pair_id, account_id)

    async def answer(self, need: object) -> object:
        """The answer to one need. Raises Refusal, which an outage becomes here, so that it has ACME's form."""
        # In the order of how often they come: a match is tried from above.
        try:
            match need:
                case needs.FindOrder():
                    return await self._find_order(need)
                case needs.CreateOrder():
                    return await self._create_order(need)
                case needs.Finalize():
                    return await self._finalize(need)
                case needs.ReadChain():
                    return await self._read_chain(need)
                case needs.FindAuthorization():
                    return await self._find_authorization(need)
                case needs.BeginValidation():
                    return await self._begin_validation(need)
                case needs.FindAccount():
                    return await self._find_account(need.id)
                case needs.FindAccountByKey():
                    return await self._read(lambda unit: acme.find_account_by_key(unit, self._pair_id, need.thumbprint))
                case needs.CreateAccount():
                    return await self._create_account(need)
                case needs.UpdateAccount():
                    return await self._update_account(need)
                case needs.ListOrders():
                    return await self._list_orders(need)
                case needs.DeactivateAuthorization():
                    return await self._deactivate_authorization(need.id)
                case _:
                    raise TypeError(f"ACME cannot ask for {type(need).__name__}")
        except OUTAGES as error:
            log.warning("request %s: %s", self._who.id, error)
            raise outage(error) from error

    async def _read(self, work: Callable[[Unit], _T]) -> _T:
        await READING.pass_together()
        return await self._resources.store.read(work)

    async def _find_account(self, account_id: str) -> Account | None:
        since = self._shared.accounts.now()
        found = await self._read(lambda unit: acme.find_account(unit, self._pair_id, account_id))
        if found is not None:
            self._shared.accounts.put(found, since)
        return found

    async def _find_order(self, need: needs.FindOrder) -> Order | None:
        now, key = self._now, (self._pair_id, need.id)
        known = self._shared.ready.take(key) if need.claiming else None
        if known is not None and now < known.expires:
            return known
        found = await self._read(lambda unit: acme.find_order(unit, self._pair_id, need.id, now))
        if found is not None and found.status is _READY and not need.claiming:
            self._shared.ready.put(key, found)
        return found

    async def _find_authorization(self, need: needs.FindAuthorization) -> Authorization | None:
        now, key = self._now, (self._pair_id, need.id)
        known = self._shared.open.take(key) if need.beginning else None
        if known is not None and now < known.expires:
            return known
        # Seen when the read began, not when it was over: meanwhile another worker may have ended it and let it go.
        since = self._shared.open.now()
        found = await self._read(lambda unit: acme.find_authorization(unit, self._pair_id, need.id, now))
        if not need.beginning and found is not None and _is_open(found):
            self._shared.open.put(key, found, since)
        return found

    async def _list_orders(self, need: needs.ListOrders) -> tuple[tuple[str, ...], str | None]:
        return await self._read(lambda unit: acme.list_orders(unit, need.account_id, need.cursor, _PAGE, self._now))

    async def _create_order(self, need: needs.CreateOrder) -> Order:
        ask = order.Ask(
            account=need.account,
            identifiers=need.identifiers,
            not_before=need.not_before,
            not_after=need.not_after,
            source=self._who.address,
            http_request_id=self._who.id,
        )
        created = await order.create(self._resources, self._pair, ask)
        if created.status is _READY:
            self._shared.ready.put((self._pair_id, created.id), created)
        elif len(created.authorization_ids) == 1:
            self._shared.pending.put((self._pair_id, created.authorization_ids[0]), created)
        return created

    async def _begin_validation(self, need: needs.BeginValidation) -> Authorization:
        challenge = next(each for each in need.authorization.challenges if each.id == need.challenge_id)
        asked = Validation(
            pair=self._pair,
            thumbprint=need.account.thumbprint,
            authorization=need.authorization,
            challenge=challenge,
            source=self._who.address,
            http_request_id=self._who.id,
        )
        key = (self._pair_id, asked.authorization.id)
        try:
            # Aside: how long it takes is the choice of whoever named the host.
            begun = await self._entry.aside(self._shared.validations.begin(self._resources, asked))
        finally:
            self._shared.open.take(key)  # what was read meanwhile is not as it was
        if begun.status is AuthorizationStatus.VALID:
            ordered = self._shared.pending.take(key)
            if ordered is not None:
                # Nothing else was lacking: the unit that made the one valid has made the other ready.
                ready = msgspec.structs.replace(ordered, status=_READY)
                self._shared.ready.put((self._pair_id, ready.id), ready)
        return begun

    async def _finalize(self, need: needs.Finalize) -> Order:
        def issued(outcome: Issued) -> None:
            key = (self._pair_id, need.account.id, outcome.certificate_id)
            self._shared.issued.put(key, (outcome.certificate, *outcome.chain))

        return await finalize(
            self._resources,
            self._pair,
            need.account,
            need.order,
            need.csr,
            source=self._who.address,
            http_request_id=self._who.id,
            issued=issued,
        )

    async def _read_chain(self, need: needs.ReadChain) -> tuple[bytes, ...] | None:
        """The certificate, if one of this account's orders on this pair got it, and its issuers without the root."""
        known = self._shared.issued.take((self._pair_id, need.account_id, need.certificate_id))
        if known is not None:
            return known

        def unit(unit: Unit) -> tuple[str, bytes] | None:
            return certificates.find_for(
                unit,
                need.certificate_id,
                application_id=self._pair.application.id,
                profile_id=self._pair.profile.id,
                kind=ProofKind.ACME_ORDER,
                subject=need.account_id,
            )

        owned = await self._read(unit)
        if owned is None:
            return None
        issuer_id, der = owned
        # The authority that signed it, which may not be the one that the profile names today.
        issuer = next(each for each in self._resources.catalogue().authorities if each.id == issuer_id)
        return (der, *issuer.issuers)

    async def _create_account(self, need: needs.CreateAccount) -> tuple[Account, bool]:
        now = self._resources.now()
        account = Account(
            id=new_id(now, self._resources.dice),
            pair_id=self._pair_id,
            jwk=need.jwk,
            thumbprint=need.thumbprint,
            status=AccountStatus.VALID,
            contact=need.contact,
            created_at=now,
        )

        def unit(unit: Unit) -> tuple[Account, bool]:
            found, new = acme.create_account(unit, account)
            if new:
                unit.audit(self._event("account.create", account.id, account.id))
            return found, new

        return await self._resources.store.write(unit)

    async def _update_account(self, need: needs.UpdateAccount) -> Account:
        now = self._resources.now()
        status = AccountStatus.DEACTIVATED if need.deactivate else None

        def unit(unit: Unit) -> Account:
            updated = acme.update_account(unit, need.account_id, contact=need.contact, status=status, at=now)
            what = "account.deactivate" if need.deactivate else "account.update"
            unit.audit(self._event(what, need.account_id, need.account_id))
            return updated

        try:
            return await self._resources.store.write(unit)
        finally:
            # Forgotten afterwards: a read in between would have remembered the account as it was.
            self._shared.accounts.forget(self._pair_id, need.account_id)

    async def _deactivate_authorization(self, authorization_id: str) -> Authorization:
        now = self._resources.now()

        def unit(unit: Unit) -> Authorization | None:
            deactivated = acme.deactivate_authorization(unit, authorization_id, now)
            if deactivated is not None:
                unit.audit(self._event("authorization.deactivate", deactivated.account_id, authorization_id))
            return deactivated

        deactivated = await self._resources.store.write(unit)
        self._shared.open.take((self._pair_id, authorization_id))
        if deactivated is None:
            raise Refusal(RefusalReason.CONFLICT, "the authorization is no longer pending or valid")
        return deactivated

    def _event(self, action: str, account_id: str, target: str) -> AuditEvent:
        return AuditEvent(
            at=self._resources.now(),
            actor=f"acme-account:{account_id}",
            action=action,
            target=target,
            outcome="success",
            application_id=self._pair.application.id,
            source=self._who.address,
            request_id=self._who.id,
        )


def _is_open(authorization: Authorization) -> bool:
    return authorization.status is AuthorizationStatus.PENDING and all(
        each.status is ChallengeStatus.PENDING for each in authorization.challenges
    )
