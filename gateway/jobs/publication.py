"""Keeps every authority's revocation lists in force: signed ahead of their end, and after each revocation (D19)."""

from __future__ import annotations

import logging

from gateway.actions.outage import OUTAGES
from gateway.actions.publish import Publications, outlook, renew_revocation_lists
from gateway.actions.resources import Resources
from gateway.domain.authority import AuthorityStatus
from gateway.domain.refusal import Refusal

log = logging.getLogger(__name__)

# What another worker or gateway revoked is on a list within this time, and a signature; what it signed is handed out
# here as soon. Looking costs one small read. What this one revoked rings a bell.
GLANCE = 0.5  # seconds
# After a failure; the list in force lasts for days yet, and a signer that is away is asked by others as well.
PAUSE = 10.0  # seconds


async def keep_published(resources: Resources, publications: Publications, *, glance: float = GLANCE) -> None:
    """Renew the lists for ever; ends by cancellation only. One authority's failure is its own, and is tried again."""
    while True:
        await renew_all(resources, publications)
        waits = [each for one in resources.catalogue().authorities if (each := publications.resting(one.id))]
        await publications.wait(min((glance, *waits)))


async def renew_all(resources: Resources, publications: Publications) -> None:
    """One round: every authority that has a certificate."""
    try:
        seen = await outlook(resources)
    except OUTAGES as trouble:
        log.warning("revocation lists not looked after: %s", trouble)
        return
    for authority in resources.catalogue().authorities:
        if authority.status is AuthorityStatus.PENDING_CERTIFICATE:
            continue
        try:
            signed = await renew_revocation_lists(resources, publications, authority, seen)
            if signed:
                log.info("authority %s: %d revocation list(s) signed", authority.name, signed)
        except (Refusal, *OUTAGES) as trouble:
            log.warning("authority %s: revocation list not signed: %s", authority.name, trouble)
            publications.rest(authority.id, PAUSE)
        except Exception:
            # One authority's trouble must not leave the others' lists to run out.
            log.exception("authority %s: revocation list not signed", authority.name)
            publications.rest(authority.id, PAUSE)
