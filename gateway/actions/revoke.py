"""Revoke: one verb for every door (D19). What was asked, the lists' next change and the audit event are one unit.

Never here: a right to revoke (the doors ask `may_revoke`, or know the key's owner), a list's signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from gateway.actions.authorize import may
from gateway.actions.outage import outage
from gateway.actions.publish import Publications
from gateway.actions.resources import Resources
from gateway.domain.access import Identity, Permission, allowed
from gateway.domain.audit import AuditEvent
from gateway.domain.authority import Authority
from gateway.domain.certificate import Certificate, SerialStatus
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.revocation import Change, RevocationReason, change, reason_of
from gateway.store import certificates, issuance, revocations
from gateway.store.unit import Duplicate, StateConflict, StoreBusy, StoreUnavailable, Unit

NO_CERTIFICATE = "there is no such certificate, or none that you may see"
LOST = "revoked before its outcome was known"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: `actor` for the audit trail, where from, and the HTTP request's id."""

    actor: str
    source: str = ""
    http_request_id: str = ""


@dataclass(frozen=True, slots=True)
class Revoked:
    """How a serial stands now. `reason` and `revoked_at` are None where a hold was released."""

    serial: str
    reason: RevocationReason | None
    revoked_at: datetime | None
    certificate_id: str | None = None


async def revoke(
    resources: Resources, publications: Publications, certificate_id: str, reason: RevocationReason, asker: Asker
) -> Revoked:
    """Revoke a certificate, release it from a hold, or say that it is so already; its lists follow within seconds.

    The same again gives the same answer. A reason that replaces another leaves the date, from which on the certificate
    was not to be trusted.

    Raises:
        Refusal: NOT_FOUND; CONFLICT where it is revoked for another reason, or is not on hold; BUSY, UNAVAILABLE.
    """
    asked = _Asked(reason, asker, resources.now())

    def unit(unit: Unit) -> Revoked:
        found = certificates.find(unit, certificate_id)
        if found is None:
            raise Refusal(RefusalReason.NOT_FOUND, NO_CERTIFICATE)
        return _revoke(unit, found, asked)

    return await _write(resources, publications, unit)


async def revoke_serial(
    resources: Resources,
    publications: Publications,
    authority: Authority,
    *,
    serial: str,
    reason: RevocationReason,
    asker: Asker,
) -> Revoked:
    """Revoke whatever was signed under this serial, though nobody recorded it: reserved, burnt, or not known at all.

    `serial` is lower-case hex without leading zeros. One that is being signed just now is burnt first. The certificate
    of an authority or an RA is revoked in this way too; one of an application by its id.

    Raises:
        Refusal: CONFLICT as in `revoke`, and where the serial is an application's certificate; BUSY, UNAVAILABLE.
    """
    asked = _Asked(reason, asker, resources.now())

    def unit(unit: Unit) -> Revoked:
        found = certificates.find_by_serial(unit, authority.id, serial)
        if found is None:
            return _revoke_unrecorded(unit, authority, serial, asked)
        if found.application_id is not None:
            raise Refusal(RefusalReason.CONFLICT, f"serial: it is that of certificate {found.id}; revoke it by its id")
        return _revoke(unit, found, asked)

    return await _write(resources, publications, unit)


async def find_readable(resources: Resources, identity: Identity, certificate_id: str) -> Certificate | None:
    """The certificate with this id, if `identity` may read it."""
    found = await resources.store.read(lambda unit: certificates.find(unit, certificate_id))
    if found is None:
        return None
    return found if await _may(resources, identity, found, Permission.READ_CERTIFICATES) else None


async def may_revoke(resources: Resources, identity: Identity, certificate: Certificate) -> bool:
    """Whether `identity` may revoke `certificate`: its application's Admins and Operators; Product Admins what is of
    no application.
    """
    return await _may(resources, identity, certificate, Permission.REVOKE_CERTIFICATE)


async def _may(resources: Resources, identity: Identity, certificate: Certificate, permission: Permission) -> bool:
    if certificate.application_id is None:
        return allowed(identity.product_role, None, Permission.MANAGE_AUTHORITIES)
    return await may(resources, identity, certificate.application_id, permission)


async def _write(resources: Resources, publications: Publications, unit: Callable[[Unit], _T]) -> _T:
    try:
        result = await resources.store.write(unit)
    except (StoreBusy, StoreUnavailable) as error:
        raise outage(error) from error
    except (StateConflict, Duplicate) as error:
        raise Refusal(RefusalReason.CONFLICT, "serial: it changed just now; nothing was done, ask again") from error
    publications.ring()
    return result


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, by whom, and when; its event."""

    reason: RevocationReason
    asker: Asker
    at: datetime

    def event(self, wanted: Change, target: str, serial: str, application_id: str | None) -> AuditEvent:
        return AuditEvent(
            at=self.at,
            actor=self.asker.actor,
            action=f"certificate.{wanted}",
            target=target,
            outcome="success",
            application_id=application_id,
            detail=f"serial {serial}: {self.reason}",
            source=self.asker.source,
            request_id=self.asker.http_request_id,
        )


def _revoke(unit: Unit, found: Certificate, asked: _Asked) -> Revoked:
    if change(_reason(found), asked.reason) is Change.NONE:
        return Revoked(found.serial, asked.reason, found.revoked_at, found.id)
    revision = revocations.begin(unit, found.issuer_id)
    found = certificates.find(unit, found.id) or found  # from here on nobody else changes it
    wanted = _wanted(_reason(found), asked.reason)
    since = found.revoked_at or asked.at
    certificates.change_revocation(unit, found, asked.reason, since=since, at=asked.at, revision=revision)
    unit.audit(asked.event(wanted, found.id, found.serial, found.application_id))
    if wanted is Change.RELEASE:
        return Revoked(found.serial, None, None, found.id)
    return Revoked(found.serial, asked.reason, since, found.id)


def _revoke_unrecorded(unit: Unit, authority: Authority, serial: str, asked: _Asked) -> Revoked:
    before = revocations.find(unit, authority.id, serial)
    if before is not None and before[0] is asked.reason:
        return Revoked(serial, *before)
    revision = revocations.begin(unit, authority.id)
    before = revocations.find(unit, authority.id, serial)
    wanted = _wanted(None if before is None else before[0], asked.reason)
    _burn(unit, authority, serial, asked.at)
    since = asked.at if before is None else before[1]
    revocations.put(
        unit,
        issuer_id=authority.id,
        serial=serial,
        reason=asked.reason,
        at=since,
        # Nobody knows until when it is valid, nor which list it names.
        not_after=authority.not_after,
        partition=revocations.EVERY_PARTITION,
        revision=revision,
    )
    unit.audit(asked.event(wanted, f"{authority.name}:{serial}", serial, None))
    return Revoked(serial, None, None) if wanted is Change.RELEASE else Revoked(serial, asked.reason, since)


def _burn(unit: Unit, authority: Authority, serial: str, at: datetime) -> None:
    standing = issuance.find_serial(unit, authority.id, serial)
    if standing is None:
        revocations.burn(unit, authority.id, serial, at=at)
    elif standing.status is SerialStatus.RESERVED:
        issuance.burn(
            unit, request_id=standing.request_id or "", issuer_id=authority.id, serial=serial, failure=LOST, at=at
        )
    elif standing.status is SerialStatus.ISSUED:
        # On PostgreSQL: there was none a statement ago. Its row must say the same as the list.
        raise StateConflict(f"serial {serial} was recorded meanwhile")


def _reason(certificate: Certificate) -> RevocationReason | None:
    return None if certificate.revoked_at is None else reason_of(certificate.revocation_reason or 0)


def _wanted(before: RevocationReason | None, reason: RevocationReason) -> Change:
    wanted = change(before, reason)
    if wanted is not Change.CONFLICT:
        # `NONE` only where somebody did the same in between: done once more, it is the same.
        return Change.REVOKE if wanted is Change.NONE else wanted
    stands = "not revoked" if before is None else f"revoked already, for the reason {before}"
    held = "; only a certificateHold can be released" if reason is RevocationReason.REMOVE_FROM_CRL else ""
    raise Refusal(RefusalReason.CONFLICT, f"revocationReason: the certificate is {stands}{held}")
