"""One list or one delta: its number claimed, its entries gathered, signed, kept, handed out (D19; RFC 5280, 5.2).

Never here: whether it is due. Nothing is signed under a number that is not claimed in the store; whatever goes wrong,
it is not used again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

import trio

from gateway.actions.outage import outage
from gateway.actions.publish.held import Publications, RevocationList
from gateway.actions.resources import Resources
from gateway.domain.authority import PARTITION, Authority
from gateway.outbound.signer import SignerFailure
from gateway.store import revocation_deltas, revocation_lists
from gateway.store.revocation_deltas import Base, DeltaState
from gateway.store.revocation_lists import WHOLE, ListState
from gateway.store.unit import EPOCH, Unit

# thisUpdate lies a little in the past, for relying parties whose clock is slow (as notBefore does, A122).
BACKDATE: Final = timedelta(minutes=5)
# Longer than a list's deadline at the signer: whoever claimed the number and is silent for so long is gone.
PATIENCE: Final = timedelta(seconds=45)
_SECOND: Final = timedelta(seconds=1)

T = TypeVar("T")


def names(authority: Authority, part: int, before: tuple[str, ...]) -> tuple[str, ...]:
    """What a partition's list says it is: every address that certificates ever had for it (RFC 5280, 6.3.3, b2i)."""
    if part == WHOLE:
        return ()
    now = (url.replace(PARTITION, str(part)) for url in authority.crl_urls if PARTITION in url)
    return tuple(dict.fromkeys((*now, *before)))


def freshest(authority: Authority, part: int) -> tuple[str, ...]:
    """Where the next complete list says that its delta is; () if it is to say nothing."""
    return authority.delta_addresses(None if part == WHOLE else part)


@dataclass(frozen=True, slots=True)
class Signing:
    """What the next list or delta of one part is signed with. Whoever signs has the authority's turn."""

    resources: Resources
    publications: Publications
    authority: Authority
    part: int

    async def sign_list(self) -> bool:
        """Sign the next complete list; false if somebody else is at it, or was, or the last is of this very second.

        Raises:
            Refusal: BUSY or UNAVAILABLE where the signer cannot help now. StoreError.
        """
        own, says = names(self.authority, self.part, ()), freshest(self.authority, self.part)

        def claim(unit: Unit) -> tuple[int, ListState, datetime] | None:
            claimed = self._claim(unit, own)
            if claimed is None:
                return None
            number, before = claimed
            latest = self._latest(before, revocation_deltas.state(unit, self.authority.id, self.part))
            known = self.publications.number(self.authority.id, self.part)
            if latest is None or before.number > known:  # somebody signed it meanwhile
                revocation_lists.give_back(unit, self.authority.id, self.part, number)
                return None
            return number, before, latest

        # Whoever asked for the list may go away: a claim that nobody knows of would be in everybody's way.
        with trio.CancelScope(shield=True):
            claimed = await self.resources.store.write(claim)
        if claimed is None:
            return False
        number, before, latest = claimed
        signed, der = await self._or_give_back(number, lambda: self._list(number, before, latest, says))

        def keep(unit: Unit) -> bool:
            kept = revocation_lists.keep(unit, signed, der)
            if kept and says:
                revocation_deltas.name(unit, signed, says, at=self.resources.now())
            return kept

        with trio.CancelScope(shield=True):
            kept = await self.resources.store.write(keep)
        if kept:
            self.publications.keep(self.authority.id, self.part, held_list(signed, der, says))
        return kept

    async def sign_delta(self) -> bool:
        """Sign the next delta to the lists in force that name one; false if there is none, or as with `sign_list`.

        It is signed after the complete list, never at the same time as one: so its number is higher than that of the
        newest, and it fits that one as well ("the CRL number of the complete CRL is less than the CRL number of the
        delta CRL", RFC 5280, 5.2.4, d). Raises as `sign_list`.
        """
        resources, issuer_id, part = self.resources, self.authority.id, self.part

        def claim(unit: Unit) -> tuple[int, ListState, DeltaState, Base, datetime] | None:
            claimed = self._claim(unit, ())
            if claimed is None:
                return None
            # Whoever has the claim sees what the one before kept: from here on nobody else names or signs a list.
            delta = revocation_deltas.state(unit, issuer_id, part)
            base = revocation_deltas.base(unit, issuer_id, part, at=resources.now())
            latest = self._latest(claimed[1], delta)
            known = self.publications.delta_number(issuer_id, part)
            if delta is None or base is None or latest is None or delta.number > known:
                revocation_lists.give_back(unit, issuer_id, part, claimed[0])
                return None
            return *claimed, delta, base, latest

        with trio.CancelScope(shield=True):
            claimed = await resources.store.write(claim)
        if claimed is None:
            return False
        number, complete, before, base, latest = claimed
        signed, der = await self._or_give_back(number, lambda: self._delta(number, complete, before, base, latest))
        with trio.CancelScope(shield=True):
            kept = await resources.store.write(lambda unit: revocation_deltas.keep(unit, signed, der))
        if kept:
            self.publications.keep_delta(issuer_id, part, held_delta(signed, der))
        return kept

    def _claim(self, unit: Unit, urls: tuple[str, ...]) -> tuple[int, ListState] | None:
        now, issuer_id, part = self.resources.now(), self.authority.id, self.part
        last = self.publications.claimed.get((issuer_id, part), 0)
        return revocation_lists.claim(unit, issuer_id, part, urls=urls, at=now, patience=PATIENCE, own=last)

    def _latest(self, before: ListState, delta: DeltaState | None) -> datetime | None:
        """The last thisUpdate of both; None if one is of this very second: another has no place before the next.

        Several gateways that each sign one a second use up the time by which thisUpdate lies in the past, and so does a
        clock that is put right.
        """
        times = (before.this_update, EPOCH if delta is None else delta.this_update)
        return None if self.resources.now().replace(microsecond=0) in times else max(times)

    async def _or_give_back(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` makes under a claim; where it makes nothing the claim is given back."""
        self.publications.claimed[self.authority.id, self.part] = number
        try:
            return await work()
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.resources.store.write(
                    lambda unit: revocation_lists.give_back(unit, self.authority.id, self.part, number)
                )
            raise

    async def _list(
        self, number: int, before: ListState, latest: datetime, says: tuple[str, ...]
    ) -> tuple[ListState, bytes]:
        now, lists = self.resources.now().replace(microsecond=0), self.authority.lists
        ledger = self.publications.ledger(self.authority.id)
        await ledger.catch_up(self.resources, self.authority.id)
        revision = ledger.revision
        expired_by = self._expired_by(before, now)
        entries = await ledger.entries(self.part, expired_by=expired_by, listed=before.revision, now=_seconds(now))
        this_update, next_update = _this_update(now, latest), now + lists.lifetime
        urls = names(self.authority, self.part, before.urls)
        try:
            der = await self.resources.signer.sign_crl(
                self.authority.key,
                number=number,
                this_update=_seconds(this_update),
                next_update=_seconds(next_update),
                entries=entries,
                names=urls,
                freshest=says,
            )
        except SignerFailure as failure:
            raise outage(failure) from failure
        return ListState(self.authority.id, self.part, number, this_update, next_update, revision, urls), der

    def _expired_by(self, before: ListState, now: datetime) -> datetime:
        """What expired earlier than this may leave, if the complete list `before` or one ahead of it had it.

        RFC 5280, 3.3: "on one regularly scheduled CRL issued beyond the validity period". Lists are signed in between
        as well; one period more makes sure that a scheduled one was among them.
        By a clock that went wrong, and right again, what lives may have been thought expired: the earlier time is
        what counts.
        """
        return max(EPOCH, min(before.this_update, now) - self.authority.lists.refresh)

    async def _delta(
        self, number: int, complete: ListState, before: DeltaState, base: Base, latest: datetime
    ) -> tuple[DeltaState, bytes]:
        now = self.resources.now().replace(microsecond=0)
        changes = self.publications.changes(self.authority.id, base.revision)
        await changes.catch_up(self.resources, self.authority.id)
        signed = replace(
            before,
            number=number,
            this_update=_this_update(now, latest),
            next_update=now + self.authority.lists.delta_lifetime,
            base_revision=base.revision,
            revision=changes.revision,
        )
        entries = await changes.changes(
            self.part,
            after=base.revision,
            expired_by=self._expired_by(complete, now),
            listed=complete.revision,
            now=_seconds(now),
        )
        try:
            der = await self.resources.signer.sign_crl(
                self.authority.key,
                number=number,
                this_update=_seconds(signed.this_update),
                next_update=_seconds(signed.next_update),
                entries=entries,
                # Those of the base, whatever it would be called today: the same scope (RFC 5280, 5.2.4, b).
                names=base.urls,
                base_number=base.number,
            )
        except SignerFailure as failure:
            raise outage(failure) from failure
        return signed, der


def held_list(state: ListState, der: bytes, says: tuple[str, ...]) -> RevocationList:
    """A complete list as it is handed out; `says` is where its delta is."""
    return RevocationList(der, state.number, state.this_update, state.next_update, state.revision, says)


def held_delta(state: DeltaState, der: bytes) -> RevocationList:
    """A delta as it is handed out."""
    return RevocationList(der, state.number, state.this_update, state.next_update, state.revision)


def _this_update(now: datetime, latest: datetime) -> datetime:
    """When a list says that it was made; later than the last one, complete or not, by a second at least.

    Caches that go by Last-Modified would take it for that one, and a delta and a complete list of one thisUpdate must
    have one number (RFC 5280, 5.2.3).
    """
    return max(now - BACKDATE, min(latest + _SECOND, now))


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
