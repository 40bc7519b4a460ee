"""Keeps every authority's revocation list in force: signed ahead of its end, and after each revocation (D19)."""

from __future__ import annotations

import logging

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.publish import Publications, renew_revocation_list
from gateway.actions.resources import Resources
from gateway.domain.authority import AuthorityStatus
from gateway.domain.refusal import Refusal

log = logging.getLogger(__name__)

# A revocation is on the published list within this time; looking costs one read of the store.
GLANCE = 30.0  # seconds


async def keep_published(resources: Resources, publications: Publications, *, glance: float = GLANCE) -> None:
    """Renew the lists for ever; ends by cancellation only. One authority's failure is its own, and is tried again."""
    while True:
        await renew_all(resources, publications)
        await trio.sleep(glance)


async def renew_all(resources: Resources, publications: Publications) -> None:
    """One round: every authority that has a certificate."""
    for authority in resources.catalogue().authorities:
        if authority.status is AuthorityStatus.PENDING_CERTIFICATE:
            continue
        try:
            if await renew_revocation_list(resources, publications, authority):
                log.info("authority %s: revocation list signed", authority.name)
        except (Refusal, *OUTAGES) as trouble:
            log.warning("authority %s: revocation list not signed: %s", authority.name, trouble)
        except Exception:
            # One authority's trouble must not leave the others' lists to run out.
            log.exception("authority %s: revocation list not signed", authority.name)
