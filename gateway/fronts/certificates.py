"""Issued certificates over REST, for one identity: read and revoke. `fronts/rest` has authenticated it.

Never here: a word about a certificate that the caller may not read, or about whether it exists.
"""

from __future__ import annotations

from datetime import datetime

from gateway.actions import revoke
from gateway.actions.revoke import Asker, Revoked
from gateway.domain.access import Identity, Permission, allowed
from gateway.domain.certificate import Certificate
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import ProofKind
from gateway.domain.revocation import RevocationReason, reason_of
from gateway.fronts.front import Front
from gateway.fronts.peer import Peer
from protocols.rest import needs

NO_AUTHORITY = "there is no such authority"


async def find(front: Front, identity: Identity, certificate_id: str) -> needs.CertificateState | None:
    """The certificate, if `identity` may read it."""
    found = await revoke.find_readable(front.resources, identity, certificate_id)
    return None if found is None else _state(found, front.resources.now())


async def revoke_one(
    front: Front, identity: Identity, who: Peer, need: needs.RevokeCertificate
) -> needs.RevocationState:
    """Revoke it, if `identity` may. Raises Refusal."""
    found = await revoke.find_readable(front.resources, identity, need.id)
    if found is None:
        raise Refusal(RefusalReason.NOT_FOUND, revoke.NO_CERTIFICATE)
    if not await revoke.may_revoke(front.resources, identity, found):
        raise Refusal(RefusalReason.FORBIDDEN, "you may not revoke certificates of this application")
    reason = RevocationReason(need.reason)
    return _revoked(await revoke.revoke(front.resources, front.publications, found.id, reason, _asker(identity, who)))


async def revoke_serial(front: Front, identity: Identity, who: Peer, need: needs.RevokeSerial) -> needs.RevocationState:
    """Revoke what may exist under a serial; for Product Admins. Raises Refusal."""
    if not allowed(identity.product_role, None, Permission.MANAGE_AUTHORITIES):
        raise Refusal(RefusalReason.FORBIDDEN, "serials of an authority are revoked by Product Admins")
    for authority in front.resources.catalogue().authorities:
        if authority.name == need.authority:
            return _revoked(
                await revoke.revoke_serial(
                    front.resources,
                    front.publications,
                    authority,
                    serial=need.serial,
                    reason=RevocationReason(need.reason),
                    asker=_asker(identity, who),
                )
            )
    raise Refusal(RefusalReason.NOT_FOUND, NO_AUTHORITY)


def _asker(identity: Identity, who: Peer) -> Asker:
    return Asker(f"{ProofKind.API_TOKEN}:{identity.name}", who.address, who.id)


def _revoked(outcome: Revoked) -> needs.RevocationState:
    return needs.RevocationState(outcome.serial, outcome.reason, outcome.revoked_at, outcome.certificate_id)


def _state(found: Certificate, now: datetime) -> needs.CertificateState:
    return needs.CertificateState(
        id=found.id,
        serial=found.serial,
        status=found.status(now),
        subject=found.subject,
        sans=tuple((each.type, each.value) for each in found.sans),
        not_before=found.not_before,
        not_after=found.not_after,
        sha1=found.sha1,
        sha256=found.sha256,
        key_algorithm=found.key_algorithm,
        signature_algorithm=found.signature_algorithm,
        source=found.source,
        application_id=found.application_id,
        profile_id=found.profile_id,
        request_id=found.request_id,
        protocol=found.protocol,
        renewed_from=found.renewed_from,
        renewed_by=found.renewed_by,
        revoked_at=found.revoked_at,
        revocation_reason=None if found.revocation_reason is None else reason_of(found.revocation_reason),
        metadata=found.metadata,
    )
