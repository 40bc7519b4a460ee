"""Publish what relying parties need of an authority: its revocation list, always in force (RFC 5280, 5; D19).

The bytes are signed by the signer and kept in memory; a list is signed again long before it runs out, and as soon as
what is revoked has changed. Must never happen here: a request that makes the signer work twice for the same list.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import trio

from gateway.actions.outage import outage
from gateway.actions.resources import Resources
from gateway.domain.authority import Authority
from gateway.domain.certificate import Certificate
from gateway.outbound.signer import SignerFailure
from gateway.store import certificates

# A week outlives a long weekend without a signer; a day between signatures keeps what caches hold young.
LIFETIME: Final = timedelta(days=7)
RENEW_AFTER: Final = timedelta(days=1)
# thisUpdate lies a little in the past, for relying parties whose clock is slow (as notBefore does, A122).
BACKDATE: Final = timedelta(minutes=5)

Revoked: TypeAlias = tuple[tuple[bytes, int, int], ...]


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A signed list. `revoked` is (serial, seconds since the epoch, reason) of each entry."""

    der: bytes
    number: int
    signed_at: datetime
    next_update: datetime
    revoked: Revoked


class Publications:
    """The lists that are in force, by the authority's id. One signature at a time for each authority."""

    def __init__(self) -> None:
        self._lists: dict[str, RevocationList] = {}
        self._turns: dict[str, trio.Lock] = {}

    def current(self, authority_id: str, now: datetime) -> RevocationList | None:
        """The list of this authority, unless it has run out: an old list is worse than none (RFC 5280, 6.3.3)."""
        held = self._lists.get(authority_id)
        return held if held is not None and now < held.next_update else None

    def keep(self, authority_id: str, signed: RevocationList) -> None:
        """Hand out `signed` from now on."""
        self._lists[authority_id] = signed

    def turn(self, authority_id: str) -> trio.Lock:
        """Who holds this lock signs for the authority; the others find the list when it is their turn."""
        return self._turns.setdefault(authority_id, trio.Lock())


async def revocation_list(resources: Resources, publications: Publications, authority: Authority) -> RevocationList:
    """The authority's list in force, signed now if there is none yet.

    Raises:
        Refusal: BUSY or UNAVAILABLE where the signer cannot help now.
    """
    held = publications.current(authority.id, resources.now())
    if held is not None:
        return held
    async with publications.turn(authority.id):
        held = publications.current(authority.id, resources.now())
        return held if held is not None else await _sign(resources, publications, authority)


async def renew_revocation_list(resources: Resources, publications: Publications, authority: Authority) -> bool:
    """Sign the authority's list again if it is due or what is revoked has changed; says whether it did."""
    async with publications.turn(authority.id):
        now = resources.now()
        held = publications.current(authority.id, now)
        if (
            held is not None
            and now < held.signed_at + RENEW_AFTER
            and held.revoked == await _revoked(resources, authority)
        ):
            return False
        await _sign(resources, publications, authority)
        return True


async def _sign(resources: Resources, publications: Publications, authority: Authority) -> RevocationList:
    now = resources.now().replace(microsecond=0)
    revoked = await _revoked(resources, authority)
    before = publications.current(authority.id, now)
    # RFC 5280, 5.2.3: the number grows with every list. Milliseconds of the clock do so over restarts as well.
    number = max(int(resources.now().timestamp() * 1000), before.number + 1 if before is not None else 0)
    next_update = now + LIFETIME
    try:
        der = await resources.signer.sign_crl(
            authority.key,
            number=number,
            this_update=int((now - BACKDATE).timestamp()),
            next_update=int(next_update.timestamp()),
            revoked=list(revoked),
        )
    except SignerFailure as failure:
        raise outage(failure) from failure
    signed = RevocationList(der, number, now, next_update, revoked)
    publications.keep(authority.id, signed)
    return signed


async def _revoked(resources: Resources, authority: Authority) -> Revoked:
    found = await resources.store.read(lambda unit: certificates.list_revoked(unit, authority.id))
    return tuple(_entry(each) for each in found)


def _entry(certificate: Certificate) -> tuple[bytes, int, int]:
    serial = bytes.fromhex(certificate.serial.rjust(len(certificate.serial) + len(certificate.serial) % 2, "0"))
    when = certificate.revoked_at or certificate.created_at
    return serial, int(when.timestamp()), certificate.revocation_reason or 0
